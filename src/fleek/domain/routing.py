"""Where a job can be run: its routes, in order, and what has become of those that were tried."""

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from enum import StrEnum
from typing import Any

from fleek.domain.inputs import MediaInput
from fleek.domain.values import dataclass


class RouteOrder(StrEnum):
    """In which order routes are tried."""

    LISTED = "listed"  # as the caller, then the catalogue, lists them
    CHEAPEST = "cheapest"
    FASTEST = "fastest"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
    """What a request says about where its job may run."""

    models: tuple[str, ...]  # by names of the catalogue or of providers, in order of preference
    parameters: Mapping[str, Any]  # as the caller wrote them
    provider: str | None = None  # only there
    order: RouteOrder = RouteOrder.LISTED
    strict: bool = True  # refuse what a route cannot express


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A model of a provider, with the job's parameters as that model takes them."""

    provider: str
    model: str
    input: Mapping[str, Any]
    inputs: tuple[MediaInput, ...] = ()  # among them


@dataclass(frozen=True, slots=True)
class Tried:
    """A route that a job has left, and the reason."""

    route: int  # its index
    code: str  # of the error
    message: str
    closed: bool = False  # never again for this job


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The routes of a job, fixed when it was accepted, and where it is among them."""

    request: RouteRequest
    routes: tuple[Route, ...]
    current: int = 0
    tried: tuple[Tried, ...] = field(default=())  # each route once, the latest last

    @property
    def route(self) -> Route:
        """The current route."""
        return self.routes[self.current]

    def next(self, is_open: Callable[[Route], bool], *, leaving: bool) -> int | None:
        """Return the route to go on with after the current one; None: there is none.

        An open one comes first. One that is not open now is returned only when `leaving` the
        current one for good: the job waits there.
        """
        closed = {tried.route for tried in self.tried if tried.closed}
        count = len(self.routes)
        others = [(self.current + step) % count for step in range(1, count)]
        left = [index for index in others if index not in closed]
        ready = (index for index in left if is_open(self.routes[index]))
        return next(ready, left[0] if leaving and left else None)

    def was_tried(self, index: int) -> bool:
        """Whether the job has been on this route before."""
        return any(tried.route == index for tried in self.tried)

    def moved(self, to: int, *, code: str, message: str, closed: bool) -> "Routing":
        """Return the routing on another route, with the reason for leaving the current one."""
        others = tuple(tried for tried in self.tried if tried.route != self.current)
        left = Tried(self.current, code, message, closed)
        return replace(self, current=to, tried=(*others, left))
