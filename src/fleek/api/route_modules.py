"""Routes whose modules are imported by the first request to one of their paths.

A process serves few parts of the API, and most installations no facade. Together with what they import,
those that a first submission does not need take a tenth of the start.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Final

from fastapi import FastAPI
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from fleek.domain.host_errors import exhaustion

VERSIONED: Final = "/api/v1/"

Prepare = Callable[[Iterable[BaseRoute]], list[BaseRoute]]


def beginning(path: str) -> str:
    """Return what says which modules a path belongs to: its first part, below `/api/v1/` with the next."""
    if path.startswith(VERSIONED):
        return VERSIONED + path[len(VERSIONED) :].partition("/")[0]
    return "/" + path[1:].partition("/")[0]


class RouteModules(BaseRoute):
    """Stands before routes, and puts those of a module behind itself once one is asked for."""

    def __init__(
        self, modules: Mapping[str, Sequence[str]], *, prepare: Prepare, documented: bool
    ) -> None:
        """`modules`: their names by the `beginning` of their paths, those of one in the order of its routes.

        `prepare` checks and completes the routes; `documented`: the description of the API has them.
        """
        self._waiting = dict(modules)
        self._prepare = prepare
        self._routes: dict[str, list[BaseRoute]] = {
            name: [] for names in modules.values() for name in names
        }
        self._imported: set[str] = set()
        self._placed = 0
        self.documented: Final = documented

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Load the routes that the path may mean; the router tries them next."""
        begins = beginning(scope["path"])
        if begins in self._waiting:
            self.load(scope["app"], begins)
        return Match.NONE, {}

    def load(self, app: FastAPI, *beginnings: str) -> None:
        """Put the routes of these beginnings behind this one; loaded ones keep the order of modules.

        Where a module cannot be imported, the next request tries again.

        Raises:
            ResourcesExhausted: This process cannot read a module now.
        """
        wanted = {name for each in beginnings for name in self._waiting.get(each, ())}
        if new := wanted - self._imported:
            self._place(app, self._routes | {name: routes_of(name) for name in new})
            self._imported |= new
        for each in beginnings:
            self._waiting.pop(each, None)

    def _place(self, app: FastAPI, by_module: dict[str, list[BaseRoute]]) -> None:
        routes = self._prepare(route for loaded in by_module.values() for route in loaded)
        behind = app.router.routes.index(self) + 1
        app.router.routes[behind : behind + self._placed] = routes
        self._routes, self._placed = by_module, len(routes)

    def waiting(self) -> tuple[str, ...]:
        """Return the beginnings whose routes are not loaded yet."""
        return tuple(self._waiting)

    def load_all(self, app: FastAPI) -> None:
        """Load what is not loaded yet."""
        self.load(app, *self._waiting)


def routes_of(module: str) -> list[BaseRoute]:
    """Import a module that has a `router`, or several such modules as `ROUTES`, and return its routes."""
    imported = load_module(module)
    parts = getattr(imported, "ROUTES", (imported,))
    return [route for part in parts for route in part.router.routes]


def load_module(name: str) -> ModuleType:
    """Import a part of the API while requests are served.

    Raises:
        ResourcesExhausted: This process has no file descriptors or no memory left for it.
    """
    try:
        return import_module(name)
    except (OSError, MemoryError) as error:
        exhausted = exhaustion(error)
        if exhausted is None:
            raise
        raise exhausted from error


def load_documented(app: FastAPI) -> None:
    """Load all routes that the description of the API has."""
    for route in list(app.routes):
        if isinstance(route, RouteModules) and route.documented:
            route.load_all(app)


async def load_documented_beside(app: FastAPI) -> None:
    """Load them one part at a time; other requests are answered between them."""
    for route in list(app.routes):
        if isinstance(route, RouteModules) and route.documented:
            for each in route.waiting():
                route.load(app, each)
                await asyncio.sleep(0)


def load_routes(app: FastAPI) -> None:
    """Load all routes, for whoever looks at all of them."""
    for route in list(app.routes):
        if isinstance(route, RouteModules):
            route.load_all(app)
