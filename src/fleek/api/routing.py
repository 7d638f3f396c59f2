"""Routes that read JSON strictly: content type, encoding, size and form are checked before use."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from copy import copy
from typing import Any, Final

from fastapi.requests import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute, APIRouter
from starlette.routing import BaseRoute

from fleek import strict
from fleek.domain.chunk_buffer import BLOCK, ChunkBuffer
from fleek.domain.errors import TooLarge, Unreadable, Unsupported

UTF8: Final = frozenset({"", "charset=utf-8", 'charset="utf-8"'})


class JsonRequest(Request):
    """A request whose JSON body has been read and checked."""

    def __init__(self, request: Request, data: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._data = data
        self._value = value

    async def body(self) -> bytes:
        """Return the body as it was sent."""
        return self._data

    async def json(self) -> Any:
        """Return the value that the body holds."""
        return self._value


class StrictRoute(APIRoute):
    """A route that takes its body only as strict JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with the reading of the body before it."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_and_handle(request: Request) -> Response:
            _check_kind(request)
            data = await read_body(request, request.app.state.runtime.settings.max_body_bytes)
            return await handle(JsonRequest(request, data, strict.loads(data)))

        return read_and_handle


def router(prefix: str = "", *, tag: str) -> APIRouter:
    """Return an empty router of strict routes, all below `prefix`."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=StrictRoute)


def answering_head(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """Return the routes with a HEAD beside each GET, behind all others and not documented."""
    ours = list(routes)
    heads: list[BaseRoute] = []
    for route in ours:
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            head = copy(route)
            head.methods, head.include_in_schema = {"HEAD"}, False
            heads.append(head)
    return ours + heads


def _check_kind(request: Request) -> None:
    kind, _, parameter = request.headers.get("content-type", "").lower().partition(";")
    kind = kind.strip()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise Unsupported("the body must be sent with Content-Type: application/json")
    if parameter.strip() not in UTF8:
        raise Unsupported("the body must be in UTF-8, with no other parameter in its Content-Type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Unsupported("the body must not be compressed")


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body, counted while it comes in; its announced length is not believed."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > limit:
        raise TooLarge(f"the body must have at most {limit} bytes")
    body = ChunkBuffer()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Unreadable("the body ended early")
        body.add(message.get("body", b""))
        if body.size > limit:
            raise TooLarge(f"the body must have at most {limit} bytes")
        more = message.get("more_body", False)
    return body.whole() if body.size <= BLOCK else await asyncio.to_thread(body.whole)
