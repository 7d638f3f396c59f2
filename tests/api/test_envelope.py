"""Around every answer: its id, who may read it, and HEAD beside GET."""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import httpx2
import pytest
from fastapi.routing import APIRoute

from fleek.app import create_app
from fleek.engine.runtime import Runtime

ClientOf = Callable[[Runtime], httpx2.AsyncClient]

ORIGIN = "https://ok.example"


async def test_a_sane_request_id_is_kept(client: httpx2.AsyncClient) -> None:
    """One id follows a request through several services."""
    answer = await client.get("/livez", headers={"X-Request-ID": "Caller-1.2_3"})

    assert answer.headers["x-request-id"] == "Caller-1.2_3"


@pytest.mark.parametrize("given", ["", "a b", "a\tb", "x" * 129, "é", "<script>", '"'])
async def test_any_other_request_id_is_replaced(client: httpx2.AsyncClient, given: str) -> None:
    """It goes into logs and back to browsers."""
    answer = await client.get("/livez", headers=[(b"X-Request-ID", given.encode("latin-1"))])

    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_each_request_has_its_own_id(client: httpx2.AsyncClient) -> None:
    """Or nothing could be found by it."""
    ids = {(await client.get("/livez")).headers["x-request-id"] for _ in range(3)}

    assert len(ids) == 3


async def test_no_other_site_may_read_answers_by_default(client: httpx2.AsyncClient) -> None:
    """A page somewhere must not use the browser of somebody in our network."""
    answer = await client.get("/livez", headers={"Origin": ORIGIN})

    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{ORIGIN}.evil.example"])
async def test_only_named_sites_may_read_answers(
    rt: Runtime, client_of: ClientOf, origin: str
) -> None:
    """By their whole name."""
    settings = rt.settings.model_copy(update={"cors_origins": (ORIGIN,)})

    async with client_of(replace(rt, settings=settings)) as client:
        answer = await client.get("/livez", headers={"Origin": origin})

    assert "access-control-allow-origin" not in answer.headers


async def test_a_named_site_may_read_answers(rt: Runtime, client_of: ClientOf) -> None:
    """And the headers that it needs; never with cookies."""
    settings = rt.settings.model_copy(update={"cors_origins": (ORIGIN,)})

    async with client_of(replace(rt, settings=settings)) as client:
        answer = await client.get("/livez", headers={"Origin": ORIGIN})
        before = await client.options(
            "/api/v1/generate",
            headers={
                "Origin": ORIGIN,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type",
            },
        )

    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "Location" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    assert before.status_code == 200
    assert before.headers["x-request-id"]


def test_every_get_has_its_head(rt: Runtime) -> None:
    """Link checkers and caches ask so."""
    routes = [route for route in create_app(rt).routes if isinstance(route, APIRoute)]

    answered = {
        method: {route.path for route in routes if method in (route.methods or ())}
        for method in ("GET", "HEAD")
    }

    assert answered["HEAD"] == answered["GET"]


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "PATCH", "FOO"])
async def test_other_methods_are_refused(client: httpx2.AsyncClient, method: str) -> None:
    """With an answer in the usual form."""
    answer = await client.request(method, "/api/v1/jobs")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json()["code"] == "method_not_allowed"


async def test_a_word_is_no_id(rt: Runtime, client: httpx2.AsyncClient) -> None:
    """A path without parameters supports its own methods, also where an id could stand."""
    supported: dict[str, set[str]] = defaultdict(set)
    for route in create_app(rt).routes:
        if isinstance(route, APIRoute) and not route.param_convertors:
            supported[route.path] |= route.methods or set()

    for path, methods in supported.items():
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - methods:
            answer = await client.request(method, path)

            assert answer.status_code == 405, (method, path, answer.text)
            assert answer.headers["allow"] == ", ".join(sorted(methods))
