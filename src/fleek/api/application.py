"""The application, with no more around its routes than they need.

A request passes each layer three times: on its way in, and with the two messages of its response. Those that
FastAPI adds are for telemetry, limits of bodies, and files of forms. Nothing of that is used here, and
with them each request costs 40 µs more.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from starlette.datastructures import State
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleek.api.deps import JOB_ID
from fleek.api.direct import DirectRoute
from fleek.api.route_modules import load_documented

ID_LENGTH: Final = 36
OF_JOB: Final = "{job_id}"


class Shared(State):
    """What an application holds for its requests, as usual attributes.

    The library looks for each one where it never is, first: that takes ten times as long.
    """

    def __setattr__(self, key: Any, value: Any) -> None:
        object.__setattr__(self, key, value)


class Application(FastAPI):
    """FastAPI with our own layers alone, within them the one that presents errors, and the table of routes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.state = Shared()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; FastAPI would look for telemetry first."""
        if scope["type"] != "http" or self.middleware_stack is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the description of the API, with routes that no request has asked for yet."""
        load_documented(self)
        return super().openapi()

    def build_middleware_stack(self) -> ASGIApp:
        """Return the layers around the routes."""
        routes = DirectRoutes(self.routes, self.router)
        app: ASGIApp = ErrorLayer(routes, self.exception_handlers)
        for each in reversed(self.user_middleware):
            app = each.cls(app, *each.args, **each.kwargs)
        return ErrorLayer(
            app, {Exception: self.exception_handlers[Exception]}
        )  # of bugs in the layers


class DirectRoutes:
    """Finds direct routes in a table; every other request is left to the router.

    The router tries one route after the other. The path of a direct route has no parameter, or `job_id` at
    its end, and no other route may have the same addresses.
    """

    def __init__(self, routes: Sequence[BaseRoute], others: ASGIApp) -> None:
        self._others = others
        self._plain: dict[tuple[str, str], DirectRoute] = {}
        self._of_job: dict[tuple[str, str], DirectRoute] = {}
        for route in routes:
            if isinstance(route, DirectRoute):
                table = self._of_job if route.path.endswith(OF_JOB) else self._plain
                for method in route.methods or ():
                    table[method, route.path.removesuffix(OF_JOB)] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or whatever else a server asks an application."""
        if scope["type"] != "http":
            await self._others(scope, receive, send)
            return
        route, parameters = self.find(scope["method"], scope["path"])
        if route is None:
            await self._others(scope, receive, send)
            return
        scope["route"], scope["endpoint"], scope["path_params"] = route, route.endpoint, parameters
        await route.handle(scope, receive, send)

    def find(self, method: str, path: str) -> tuple[DirectRoute | None, dict[str, str]]:
        """Return the route of a request and its parameters; None: it is for the router to find."""
        route = self._plain.get((method, path))
        if route is not None:
            return route, {}
        given = path[-ID_LENGTH:]
        route = self._of_job.get((method, path[:-ID_LENGTH]))
        return (None if JOB_ID.fullmatch(given) is None else route), {"job_id": given}


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
            """Note that the response has begun: no other can be sent then."""
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
