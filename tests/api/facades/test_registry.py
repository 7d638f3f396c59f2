"""Facades that are loaded by the first request to them."""

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from fleek.api.facades.registry import FACADES
from fleek.app import create_app
from fleek.engine.runtime import Runtime

PARTS = [part for parts in FACADES.values() for part in parts]


def below(app: FastAPI, part: str) -> set[str]:
    """Return the paths of the routes below the first part of a path."""
    routes = (route for route in app.routes if isinstance(route, APIRoute))
    return {route.path for route in routes if route.path.startswith(f"/{part}/")}


async def answer(app: FastAPI, method: str, path: str) -> httpx2.Response:
    """Return the answer to a request without a body."""
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.request(method, path)


async def test_an_application_has_no_facade_at_first(rt: Runtime) -> None:
    """Most installations serve none, and would start later."""
    app = create_app(rt)

    response = await answer(app, "GET", "/livez")

    assert response.status_code == 200
    assert [below(app, part) for part in PARTS] == [set()] * len(PARTS)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/replicate/v1/models", "GET", 200),
        ("/replicate/v1/models", "HEAD", 200),
        ("/replicate/v1/models", "PATCH", 405),
        ("/openai/v1/models", "GET", 200),
        ("/openai/v1/nothing", "GET", 404),
        ("/fal/.well-known/jwks.json", "GET", 200),
        ("/fal-queue/nothing", "DELETE", 405),
    ],
)
async def test_the_first_request_is_answered_as_the_second(
    rt: Runtime, path: str, method: str, status: int
) -> None:
    """Also if it is refused, in the form of the other service; and only its facade is loaded."""
    app = create_app(rt)

    first, second = [await answer(app, method, path) for _ in range(2)]

    assert (first.status_code, second.status_code) == (status, status)
    assert first.content == second.content
    used = path.split("/")[1]
    loaded = {part for part in PARTS if below(app, part)}
    assert loaded == set(next(parts for parts in FACADES.values() if used in parts))
