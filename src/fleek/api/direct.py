"""Routes whose handlers are called directly: FastAPI describes them, and does no more.

For each request FastAPI opens three stacks of what to close, catches errors twice and solves
dependencies. That is a third of a status request, and the handlers of the busiest routes need none of it.
"""

import inspect
from collections.abc import Mapping
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from fleek.api.deps import read_job_id
from fleek.api.routing import Handle, StrictRoute

NO_HEADERS: Final[Mapping[str, str]] = {}
TAKEN: Final = frozenset({"request", "job_id", "body"})
"""The parameters that a handler may have, beside those for the description of the API alone."""


WHOLE: Final = "fleek.whole"
"""In the scope of a request: its response may be one message, which holds the body under this name."""

JSON: Final = (b"content-type", b"application/json")


class JsonResponse(Response):
    """A response with a document of our own."""

    def __init__(self, document: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.body = document
        self.background = None
        self.raw_headers = [
            *(
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in headers.items()
            ),
            (b"content-length", b"%d" % len(document)),
            JSON,
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, at once if the server takes it so: each layer passes one message less."""
        if WHOLE not in scope or scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers, WHOLE: self.body})


def json_response(
    document: bytes, *, status: int = 200, headers: Mapping[str, str] = NO_HEADERS
) -> Response:
    """Return a response with a document of our own, which needs no validation."""
    return JsonResponse(document, status, headers)


class DirectRoute(StrictRoute):
    """A strict route whose handler takes `request`, perhaps `job_id` and `body`, and returns a response."""

    _answer: Handle

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; errors are the application's to present."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)

    def get_route_handler(self) -> Handle:
        """Return the handler with the checks before it, and keep it."""
        self._answer = super().get_route_handler()
        return self._answer

    def handler(self) -> Handle:
        """Return what reads the parameters of the handler and calls it."""
        call: Any = self.endpoint
        names = {name for name in inspect.signature(call).parameters if not name.startswith("_")}
        assert names <= TAKEN, f"{self.path}: no such parameter here: {names - TAKEN}"
        named, body = "job_id" in names, self.body_field

        async def read_and_call(request: Request) -> Response:
            """Validate what the handler takes, as FastAPI would, and call it."""
            taken: dict[str, Any] = {"request": request}
            if named:
                taken["job_id"] = read_job_id(request)
            if body is not None:
                taken["body"], errors = body.validate(await request.json(), loc=("body",))
                if errors:
                    raise RequestValidationError(errors)
            response: Response = await call(**taken)
            return response

        return read_and_call
