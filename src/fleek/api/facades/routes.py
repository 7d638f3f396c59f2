"""Routes of a facade: they ignore the headers that they do not know, as the service they stand for does."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi.requests import Request
from fastapi.responses import Response
from starlette.routing import BaseRoute

from fleek.api.errors import Refusal
from fleek.api.facades.repeats import noticing
from fleek.api.request_body import read_json
from fleek.api.routing import Handle, Router, StrictRoute, check_query, known_query
from fleek.domain.access import Required

Handler = TypeVar("Handler", bound=Callable[..., Any])


class FacadeRoute(StrictRoute):
    """A route that refuses query parameters that it does not know, and takes its body as strict JSON."""

    def checked(self, handle: Handle) -> Handle:
        """Return the handler with the checks of query and body before it."""
        known = known_query(self.dependant)
        has_body = self.body_field is not None

        async def check_and_handle(request: Request) -> Response:
            check_query(request, known, ())
            given = await read_json(request) if has_body else request
            return await noticing(given, handle)

        return check_and_handle


def names_nothing(refusal: Refusal) -> bool:
    """Whether an address holds an id that cannot be one of ours, which other services answer with 404."""
    return any(field.location == "path" for field in refusal.errors)


class FacadeRouter:
    """Declares the routes of a facade below each of its prefixes.

    They are not in our OpenAPI document: the other service's documents describe them.
    """

    def __init__(self, *prefixes: str) -> None:
        self._routers = [
            Router(prefix, tag="facades", kind=FacadeRoute, documented=False)
            for prefix in prefixes
        ]

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes that were declared."""
        return [route for router in self._routers for route in router.routes]

    def route(
        self, methods: str | Sequence[str], path: str, *, scope: Required | None, **options: Any
    ) -> Callable[[Handler], Handler]:
        """Declare a route. `options` are those of ``APIRouter.add_api_route``."""
        named = [methods] if isinstance(methods, str) else methods

        def declare(handler: Handler) -> Handler:
            for router in self._routers:
                for method in named:
                    router.declare(method, path, scope=scope, **options)(handler)
            return handler

        return declare
