"""Access to routes: scopes, and which routes are open."""

from collections.abc import Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIRouter

from fleek.api.route_modules import RouteModules, load_routes
from fleek.api.routing import ScopedRoute, router
from fleek.app import create_app
from fleek.domain.access import ANONYMOUS, ANY_SCOPE, Caller, Required, Scope
from fleek.domain.errors import InternalError
from fleek.engine.runtime import Runtime

OPEN = {
    *("/", "/docs", "/redoc", "/openapi.json", "/static/{name:path}"),
    *("/health", "/health-check", "/livez", "/readyz"),
    "/webhooks/{provider}/{token}",
    *("/fal/.well-known/jwks.json", "/fal/proxy"),
}
"""What needs no key: pages, health without details, callbacks, which are signed, public keys, and a
proxy that hands a request to another route, which checks its key."""


FACADE: Final = "fleek.api.facades.fal.facade"


def scopes(app: FastAPI) -> Mapping[str, Required | None]:
    """Return the scope of each route."""
    return {
        f"{method} {route.path}": route.scope
        for route in app.routes
        if isinstance(route, ScopedRoute)
        for method in route.methods or ()
    }


def test_only_these_routes_are_open(rt: Runtime) -> None:
    """All others declare a scope, and HEAD has the scope of GET."""
    app = create_app(rt)
    load_routes(app)

    declared = scopes(app)

    assert all(isinstance(route, ScopedRoute | RouteModules) for route in app.routes)
    assert {name.split()[1] for name, scope in declared.items() if scope is None} == OPEN
    assert all(
        declared[f"HEAD {name.removeprefix('GET ')}"] is scope
        for name, scope in declared.items()
        if name.startswith("GET ")
    )


@pytest.mark.parametrize("module", ["fleek.api.jobs", "fleek.api.stats", FACADE])
def test_a_route_without_a_scope_is_refused(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Otherwise it would be open by mistake: one that is loaded at the start, later, of a facade."""
    forgotten = SimpleNamespace(router=APIRouter(routes=[APIRoute("/forgotten", lambda: None)]))
    monkeypatch.setattr(import_module(module), "ROUTES", [forgotten], raising=False)

    with pytest.raises(InternalError, match="forgotten"):
        load_routes(create_app(rt))


def test_a_scope_must_be_declared() -> None:
    """A default could be forgotten."""
    declare = cast(Any, router(tag="jobs").get)

    with pytest.raises(TypeError, match="scope"):
        declare("/forgotten")


def test_the_description_names_the_scope(rt: Runtime) -> None:
    """For each operation that needs one, with both headers for keys."""
    app = create_app(rt)

    document = app.openapi()

    for name, scope in scopes(app).items():
        method, path = name.split()
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is not None:
            named = [] if scope == ANY_SCOPE else [scope]
            expected = None if scope is None else [{"bearer": named}, {"apiKey": named}]
            assert operation.get("security") == expected, name


def test_admin_includes_all_scopes() -> None:
    """No other scope includes admin."""
    admin = Caller("default", "k", frozenset({Scope.ADMIN}))

    assert all(admin.may(scope) for scope in Scope)
    assert {scope for scope in Scope if not ANONYMOUS.may(scope)} == {Scope.ADMIN}
