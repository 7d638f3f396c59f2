"""Routes whose modules are imported by the first request to one of their paths."""

from collections.abc import Mapping
from errno import EMFILE
from importlib import import_module
from pathlib import Path
from typing import Final

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from fleek import api
from fleek.api import route_modules
from fleek.api.direct import DirectRoute
from fleek.api.route_modules import beginning, load_routes, routes_of
from fleek.api.routing import Router
from fleek.app import AT_START, MODULES, create_app
from fleek.engine.runtime import Runtime

LOADED: Final = {"/api/v1/generate", "/api/v1/jobs", "/api/v1/status", "/generate", "/status"}


def beginnings(app: FastAPI) -> set[str]:
    """Return the beginnings of the paths of the loaded routes."""
    return {beginning(route.path) for route in app.routes if isinstance(route, APIRoute)}


def out_of_descriptors(_module: str) -> None:
    """Fail as an import does then."""
    raise OSError(EMFILE, "Too many open files")


async def answer(app: FastAPI, method: str, path: str) -> httpx2.Response:
    """Return the answer to a request without a body."""
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.request(method, path)


@pytest.mark.parametrize("path", ["/api/v1/jobs/x/logs?tail=1", "/api/v1", "/", "//", "/media/"])
def test_the_beginning_of_a_path_is_its_first_part_that_tells_modules_apart(path: str) -> None:
    """A version tells none apart."""
    assert path.startswith(beginning(path))
    assert beginning(path) == {
        "/api/v1/jobs/x/logs?tail=1": "/api/v1/jobs",
        "/api/v1": "/api",
        "/media/": "/media",
    }.get(path, "/")


def test_each_path_of_a_module_leads_to_it() -> None:
    """A module that is not listed under a beginning of its paths would never be loaded for it."""
    files = Path(next(iter(api.__path__))).glob("*.py")
    modules = {file.stem: import_module(f"fleek.api.{file.stem}") for file in files}
    declared = {
        name
        for name, module in modules.items()
        if isinstance(getattr(module, "router", None), Router)
    }
    paths = {
        name: {beginning(route.path) for route in modules[name].router.routes} for name in declared
    }

    listed: Mapping[str, set[str]] = {
        name: {begins for begins, names in MODULES.items() if name in names} for name in declared
    }
    assert listed == paths


def test_what_is_in_the_table_of_routes_is_loaded_at_the_start() -> None:
    """The table is made when the application is."""
    direct = {
        name
        for names in MODULES.values()
        for name in names
        if any(isinstance(route, DirectRoute) for route in routes_of(f"fleek.api.{name}"))
    }

    assert direct == {name for begins in AT_START for name in MODULES[begins]}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("HEAD", "/livez", 200),
        ("GET", "/info", 200),
        ("GET", "/api/v1/models", 200),
        ("GET", "/api/v1/jobs/days", 200),
        ("PUT", "/api/v1/jobs/cancel", 405),
        ("PATCH", "/api/v1/webhooks/secret", 405),
        ("GET", "/api/v1/tenants/nobody", 403),
    ],
)
async def test_the_first_request_is_answered_as_the_second(
    rt: Runtime, method: str, path: str, status: int
) -> None:
    """Also if it is refused; and nothing is loaded but what its path may mean."""
    app = create_app(rt)
    assert beginnings(app) == LOADED

    first, second = [await answer(app, method, path) for _ in range(2)]

    assert (first.status_code, second.status_code) == (status, status)
    assert first.headers.get("allow") == second.headers.get("allow")
    assert len(first.content) == len(second.content)
    asked = set(MODULES[beginning(path)])
    may_be = {begins for begins, modules in MODULES.items() if asked.intersection(modules)}
    assert beginnings(app) - LOADED <= may_be


async def test_a_module_that_could_not_be_imported_is_tried_again(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its paths would be unknown until the process ends, once it was short of file descriptors."""
    app = create_app(rt)

    with monkeypatch.context() as short:
        short.setattr(route_modules, "import_module", out_of_descriptors)
        refused = await answer(app, "GET", "/api/v1/models")
        unknown = await answer(app, "GET", "/api/v1/generates")

    assert (refused.status_code, refused.json()["code"]) == (503, "resources_exhausted")
    assert unknown.status_code == 404
    assert unknown.json()["errors"][0]["suggestion"] == "/api/v1/generate"
    assert (await answer(app, "GET", "/api/v1/models")).status_code == 200
    assert (await answer(app, "GET", "/api/v1/unknown")).status_code == 404


@pytest.mark.parametrize("path", ["/replicate/v1/models", "/fal-queue/a/b", "/openai/v1/models"])
async def test_a_facade_that_could_not_be_imported_is_tried_again(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Its form of errors is not there either: the refusal is a problem document."""
    app = create_app(rt)

    with monkeypatch.context() as short:
        short.setattr(route_modules, "import_module", out_of_descriptors)
        refused = await answer(app, "GET", path)

    assert (refused.status_code, refused.json()["code"]) == (503, "resources_exhausted")
    assert int(refused.headers["retry-after"]) > 0
    assert (await answer(app, "GET", path)).status_code != 503


async def test_an_unknown_path_is_compared_with_all_paths(rt: Runtime) -> None:
    """The suggestion must not depend on what was asked for before."""
    app = create_app(rt)

    response = await answer(app, "GET", "/api/v1/webhoks/endpoints")

    assert response.json()["errors"][0]["suggestion"] == "/api/v1/webhooks/endpoints"


def test_the_order_of_requests_does_not_change_the_order_of_routes(rt: Runtime) -> None:
    """Nor the description of the API."""
    orders = []
    for first in ("/metrics", "/api/v1/keys"):
        app = create_app(rt)
        scope = {"type": "http", "app": app, "path": first}
        for route in list(app.routes):
            if not isinstance(route, APIRoute):
                route.matches(scope)
        load_routes(app)
        orders.append([route.path for route in app.routes if isinstance(route, APIRoute)])

    assert orders[0] == orders[1]
