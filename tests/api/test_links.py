"""Behind a proxy, every published address is the public one, including its path."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import httpx2
from fastapi.routing import APIRoute

from fleek.api.route_modules import load_routes
from fleek.app import create_app
from fleek.domain.job import Status
from fleek.engine.runtime import Runtime

Make = Callable[..., Awaitable[Any]]

PUBLIC: Final = "https://x.example/fleek"
INSIDE: Final = "10.9.8.7:8123"  # how the proxy reaches the service
FORWARDED: Final = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "host=evil.example",
    "X-Original-URL": "/evil",
}
PROMPT: Final = {"prompt": "x"}
OTHERS: Final = re.compile(rf"{re.escape(INSIDE)}|127\.0\.0\.1:8000|evil")
PATH: Final = re.compile(r'"/(?:api|media|docs|redoc|health|readyz|livez|metrics|openapi)\b[^"]*"')


async def test_responses_contain_public_addresses_only(
    rt: Runtime, make: Make, complete: Make
) -> None:
    """On all routes, in headers and bodies, whatever the proxy sends."""
    settings = rt.settings.model_copy(update={"public_url": PUBLIC})
    app = create_app(replace(rt, settings=settings))
    load_routes(app)
    done, failed, waiting = await complete(), await make(Status.FAILED), await make()
    names = {"job_id": done.id, "name": f"{done.id}.png", "provider": "x", "token": "x"}
    gets = [
        route.path
        for route in app.routes
        if isinstance(route, APIRoute)
        and "GET" in (route.methods or ())
        and "static" not in route.path
        and route.path != "/api/v1/events"  # endless; see test_tenant_events.py
    ]
    calls = [
        ("GET", re.sub(r"{(\w+)(:\w+)?}", lambda found: str(names.get(found[1], "x")), path))
        for path in gets
    ]
    calls += [
        ("GET", "/api/v1/jobs?limit=1"),
        ("GET", f"/api/v1/jobs/{waiting.id}"),
        ("POST", "/generate"),
        ("POST", "/api/v1/generate"),
        ("POST", f"/api/v1/jobs/{failed.id}/retry"),
        ("POST", f"/api/v1/jobs/{failed.id}/retry"),
        ("POST", f"/api/v1/jobs/{waiting.id}/cancel"),
        ("DELETE", f"/api/v1/jobs/{done.id}?purge=true"),
    ]
    transport = httpx2.ASGITransport(app)

    async with httpx2.AsyncClient(
        transport=transport, base_url=f"http://{INSIDE}", headers=FORWARDED
    ) as http:
        answers = [
            await http.request(method, path, json=PROMPT if path.endswith("generate") else None)
            for method, path in calls
        ]

    assert len(answers) > 25
    found = {
        (answer.request.method, answer.request.url.path): f"{answer.headers} {answer.text}"
        for answer in answers
    }
    assert {
        call: OTHERS.findall(text) for call, text in found.items() if OTHERS.search(text)
    } == {}
    bodies = {path: text for (_, path), text in found.items() if path != "/openapi.json"}
    assert {path: PATH.findall(text) for path, text in bodies.items() if PATH.search(text)} == {}
    headers = [
        value.lstrip("<")
        for answer in answers
        for name, value in answer.headers.items()
        if name in {"location", "link"}
    ]
    assert len(headers) == 4
    assert {value for value in headers if not value.startswith(f"{PUBLIC}/api/v1/jobs")} == set()


async def test_the_description_names_the_public_address(rt: Runtime) -> None:
    """API consoles and generated clients call it."""
    settings = rt.settings.model_copy(update={"public_url": PUBLIC})
    transport = httpx2.ASGITransport(create_app(replace(rt, settings=settings)))

    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        document = (await http.get("/openapi.json")).json()

    assert document["servers"] == [{"url": PUBLIC}]
