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

TAKEN: Final = frozenset({"request", "job_id", "body"})
"""The parameters that a handler may have, beside those for the description of the API alone."""


def json_response(
    document: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with a document of our own, which needs no validation."""
    return Response(document, status, headers, media_type="application/json")


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
