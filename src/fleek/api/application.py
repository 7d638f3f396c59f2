"""The application, with no more layers around its routes than they need.

A request passes each layer three times: on its way in, and with the two messages of its response. Those that
FastAPI adds are for telemetry, limits of bodies, and files of forms. Nothing of that is used here, and
with them each request costs 40 µs more.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Application(FastAPI):
    """FastAPI with our own layers alone, and within them the one that presents errors."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the layers around the routes."""
        app: ASGIApp = ErrorLayer(self.router, self.exception_handlers)
        for each in reversed(self.user_middleware):
            app = each.cls(app, *each.args, **each.kwargs)
        return ErrorLayer(
            app, {Exception: self.exception_handlers[Exception]}
        )  # of bugs in the layers


class ErrorLayer:
    """Answers the errors of what is behind it; bugs are raised again, for the server's log."""

    def __init__(self, app: ASGIApp, handlers: Mapping[Any, Callable[..., Any]]) -> None:
        """`handlers`: by the class of the error; the nearest one counts, and `Exception` has one."""
        self._app = app
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if started:  # the rest of the response is missing: the server closes the connection
                raise
            kind = next(kind for kind in type(error).__mro__ if kind in self._handlers)
            response = await self._handlers[kind](Request(scope, receive), error)
            await response(scope, receive, send)
            if kind is Exception:
                raise
