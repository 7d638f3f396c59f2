"""Routes that are built when they are first used."""

from collections.abc import Sequence
from typing import Final

import httpx2
import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute

from fleek.api.lazy_route import LazyRoute
from fleek.api.route_modules import load_routes
from fleek.api.routing import ScopedRoute, answering_head, lenient_router
from fleek.app import create_app
from fleek.engine.runtime import Runtime

BUILT: Final = "dependant"  # what FastAPI derives from the handler


def declared() -> list[BaseRoute]:
    """Return two routes, and those for HEAD."""
    router = lenient_router(tag="x")

    @router.get("/one/{number}", scope=None)
    async def one(number: int) -> int:
        return number

    @router.get("/two", scope=None)
    async def two() -> int:
        return 2

    return answering_head(router.routes)


def built(routes: Sequence[BaseRoute]) -> list[str]:
    """Return the methods and paths of the routes that are built."""
    return [
        f"{''.join(route.methods or ())} {route.path}"
        for route in routes
        if isinstance(route, LazyRoute) and BUILT in vars(route)
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_only_a_route_that_is_used_is_built(method: str) -> None:
    """The others would make the service start late."""
    app = FastAPI(routes=declared(), openapi_url=None)
    transport = httpx2.ASGITransport(app)

    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        before = built(app.routes)
        response = await client.request(method, "/one/1")

    assert response.status_code == 200
    assert (before, built(app.routes)) == ([], [f"{method} /one/{{number}}"])


def test_every_route_can_be_built(rt: Runtime) -> None:
    """A route that is declared wrongly fails here, not at its first request."""
    app = create_app(rt)
    load_routes(app)
    routes = [route for route in app.routes if isinstance(route, ScopedRoute)]

    for route in routes:
        methods = route.methods
        assert route.dependant.call is route.endpoint
        assert route.methods is methods

    assert len(built(routes)) == len(routes)


def test_a_name_that_no_route_has_is_an_error() -> None:
    """Also after the route was built."""
    route = declared()[0]

    for _ in range(2):
        with pytest.raises(AttributeError, match="nothing"):
            route.nothing  # type: ignore[attr-defined]  # noqa: B018 - it is to fail
