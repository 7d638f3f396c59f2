"""Every response: its request id, CORS, and HEAD beside GET."""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import httpx2
import pytest
from fastapi.routing import APIRoute

from fleek.app import create_app
from fleek.engine.runtime import Runtime

ClientOf = Callable[[Runtime], httpx2.AsyncClient]

ORIGIN = "https://ok.example"


async def test_a_valid_request_id_is_kept(client: httpx2.AsyncClient) -> None:
    """One id follows a request through several services."""
    answer = await client.get("/livez", headers={"X-Request-ID": "Caller-1.2_3"})

    assert answer.headers["x-request-id"] == "Caller-1.2_3"


async def test_any_other_request_id_is_replaced(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """It is written to logs and returned to browsers."""
    for given in ["", "a b", "a\tb", "x" * 129, "é", "<script>", '"']:
        with subtests.test(given=str(given)[:40]):
            answer = await client.get(
                "/livez", headers=[(b"X-Request-ID", given.encode("latin-1"))]
            )

            assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_each_request_has_its_own_id(client: httpx2.AsyncClient) -> None:
    """It identifies the request in the log."""
    ids = {(await client.get("/livez")).headers["x-request-id"] for _ in range(3)}

    assert len(ids) == 3


async def test_no_other_site_may_read_responses_by_default(client: httpx2.AsyncClient) -> None:
    """A page elsewhere must not use the browser of a user in the service's network."""
    answer = await client.get("/livez", headers={"Origin": ORIGIN})

    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{ORIGIN}.evil.example"])
async def test_only_configured_sites_may_read_responses(
    rt: Runtime, client_of: ClientOf, origin: str
) -> None:
    """Origins are compared completely."""
    settings = rt.settings.model_copy(update={"cors_origins": (ORIGIN,)})

    async with client_of(replace(rt, settings=settings)) as client:
        answer = await client.get("/livez", headers={"Origin": origin})

    assert "access-control-allow-origin" not in answer.headers


async def test_a_configured_site_may_read_responses(rt: Runtime, client_of: ClientOf) -> None:
    """With the headers that it needs, but never with cookies."""
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


IN_A_BROWSER: Final = {
    ("/openai/v1/images/generations", "POST"): (
        "authorization,content-type,x-stainless-retry-count,x-stainless-runtime",
        {"x-fleek-job", "x-fleek-ignored", "x-fleek-adjusted", "openai-poll-after-ms"},
    ),
    ("/fal/proxy", "PUT"): ("authorization,x-fal-target-url", {"x-fal-request-id"}),
}
"""What clients of other services send to an address, and what they read."""


async def test_clients_of_other_services_work_in_a_browser(
    rt: Runtime, client_of: ClientOf, subtests: pytest.Subtests
) -> None:
    """A page of a configured site may send their headers, and read those of the answers."""
    settings = rt.settings.model_copy(update={"cors_origins": (ORIGIN,)})
    async with client_of(replace(rt, settings=settings)) as client:
        for (path, method), (sent, read) in IN_A_BROWSER.items():
            with subtests.test(path=path):
                asked = {
                    "Origin": ORIGIN,
                    "Access-Control-Request-Method": method,
                    "Access-Control-Request-Headers": sent,
                }

                before = await client.options(path, headers=asked)
                answer = await client.get(path, headers={"Origin": ORIGIN})

                exposed = answer.headers["access-control-expose-headers"].lower()
                assert before.status_code == 200
                assert read <= set(exposed.split(", "))


def test_every_get_route_supports_head(rt: Runtime) -> None:
    """Link checkers and caches use it."""
    routes = [route for route in create_app(rt).routes if isinstance(route, APIRoute)]

    answered = {
        method: {route.path for route in routes if method in (route.methods or ())}
        for method in ("GET", "HEAD")
    }

    assert answered["HEAD"] == answered["GET"]


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "PATCH", "FOO"])
async def test_other_methods_are_refused(client: httpx2.AsyncClient, method: str) -> None:
    """The error is a problem document."""
    answer = await client.request(method, "/api/v1/jobs")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json()["code"] == "method_not_allowed"


async def test_a_fixed_path_is_not_taken_for_an_id(
    rt: Runtime, client: httpx2.AsyncClient
) -> None:
    """It supports its own methods only, also beside a route with an id in its place."""
    supported: dict[str, set[str]] = defaultdict(set)
    for route in create_app(rt).routes:
        if isinstance(route, APIRoute) and not route.param_convertors:
            supported[route.path] |= route.methods or set()

    for path, methods in supported.items():
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - methods:
            answer = await client.request(method, path)

            assert answer.status_code == 405, (method, path, answer.text)
            assert answer.headers["allow"] == ", ".join(sorted(methods))
