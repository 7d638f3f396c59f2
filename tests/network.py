"""A fake network, for tests of the handling of responses."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

from fleek.outbound.client import Request, Response


class FakeNetwork:
    """Return the response of `respond` to each request, and record the requests."""

    def __init__(self, respond: Callable[[Request], Response]) -> None:
        self.respond = respond
        self.requests: list[Request] = []

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncGenerator[Response]:
        """Yield the response, or raise."""
        self.requests.append(request)
        yield self.respond(request)

    async def close(self) -> None:
        """Do nothing."""


async def in_parts(*parts: bytes | Exception) -> AsyncIterator[bytes]:
    """Yield a body in parts; an error is raised, as when a connection breaks."""
    for part in parts:
        if isinstance(part, Exception):
            raise part
        yield part


def respond(status: int, *parts: bytes | Exception, **headers: str) -> Response:
    """Return a response with this body; an underscore in a header's name is a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, in_parts(*parts))
