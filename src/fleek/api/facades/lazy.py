"""Facades that are loaded by the first request to one of their paths.

Most installations serve none, or one; together they have as many routes as the API.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from fleek.api.errors import ErrorForm, Refusal

Prepare = Callable[[Iterable[BaseRoute]], list[BaseRoute]]


class LazyFacade(BaseRoute):
    """Stands for the routes of a facade, and puts them behind itself once one is asked for."""

    def __init__(self, name: str, *parts: str, prepare: Prepare) -> None:
        """`parts`: first parts of the paths; `prepare`: checks and completes the routes."""
        self._module = f"fleek.api.facades.{name}.facade"
        self._parts = frozenset(parts)
        self._prepare = prepare
        self._loaded = False

    @property
    def error_forms(self) -> dict[str, ErrorForm]:
        """How errors are presented, by the first part of the path."""
        return dict.fromkeys(self._parts, self._present)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Load the routes if the path is one of theirs; the router tries them next."""
        if not self._loaded and scope["path"][1:].partition("/")[0] in self._parts:
            self.load(scope["app"])
        return Match.NONE, {}

    def load(self, app: FastAPI) -> None:
        """Put the routes behind this one, unless they are."""
        if self._loaded:
            return
        routes = [route for part in self._facade().ROUTES for route in part.router.routes]
        behind = app.router.routes.index(self) + 1
        app.router.routes[behind:behind] = self._prepare(routes)
        self._loaded = True

    def _facade(self) -> Any:
        return import_module(self._module)

    def _present(self, refusal: Refusal) -> Response:
        response: Response = self._facade().present_error(refusal)
        return response


def load_facades(app: FastAPI) -> None:
    """Load all facades, for whoever looks at all routes."""
    for route in list(app.routes):
        if isinstance(route, LazyFacade):
            route.load(app)
