"""Routes whose handlers are called directly, and the layer that presents errors."""

from typing import Any

import pytest
from fastapi.responses import Response
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from fleek.api.application import Application, DirectRoutes, ErrorLayer
from fleek.api.direct import DirectRoute
from fleek.api.route_modules import load_routes
from fleek.api.routing import Router, ScopedRoute
from fleek.app import create_app
from fleek.engine.runtime import Runtime

ID = "0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41"
SCOPE: Scope = {"type": "http", "headers": []}


def test_a_handler_with_other_parameters_is_refused() -> None:
    """It would be called without them."""
    router = Router("", tag="jobs", kind=DirectRoute)

    @router.get("/jobs", scope=None)
    async def read(request: Request, limit: int) -> Response:
        raise NotImplementedError

    (route,) = router.routes
    assert isinstance(route, ScopedRoute)

    with pytest.raises(AssertionError, match="limit"):
        route.handler()


def by_the_router(app: Application, method: str, path: str) -> tuple[Any, Any]:
    """Return the first route that fits, and its parameters."""
    for route in app.routes:
        match, found = route.matches({**SCOPE, "method": method, "path": path})
        if match is Match.FULL:
            return route, found["path_params"]
    raise LookupError(path)


def test_the_table_finds_what_the_router_would_find(rt: Runtime) -> None:
    """Whatever the router alone should find, the table leaves to it; it has what is loaded at the start."""
    app = create_app(rt)
    assert isinstance(app, Application)
    table = DirectRoutes(app.routes, app)
    load_routes(app)

    found = {}
    for route in app.routes:
        for name in (ID, ID.upper(), "recent"):
            path = getattr(route, "path", "").replace("{job_id}", name)
            for method in ("GET", "HEAD", "POST", "DELETE"):
                chosen, parameters = table.find(method, path)
                found[method, path] = chosen is not None
                if chosen is not None:
                    assert (chosen, parameters) == by_the_router(app, method, path)

    assert sum(found.values()) == 8
    assert found["POST", "/api/v1/generate"]
    assert found["HEAD", f"/api/v1/jobs/{ID}"]
    assert not found["DELETE", f"/api/v1/jobs/{ID}"]
    assert not found["GET", f"/status/{ID.upper()}"]


@pytest.mark.parametrize(
    ("scope", "first", "answer"),
    [
        ({"type": "lifespan", "state": {}}, "lifespan.startup", "lifespan.startup.complete"),
        (
            {"type": "websocket", "path": "/", "root_path": ""},
            "websocket.connect",
            "websocket.close",
        ),
    ],
)
async def test_what_is_no_request_is_answered_by_the_router(
    rt: Runtime, scope: Scope, first: str, answer: str
) -> None:
    """Other servers than ours ask for the start of an application, and for WebSockets."""
    given = [{"type": first}, {"type": "lifespan.shutdown"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return given.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await create_app(rt)({**SCOPE, **scope}, receive, send)

    assert sent[0]["type"] == answer


async def answers(app: Any, handlers: dict[type, Any]) -> tuple[list[Message], Exception | None]:
    """Return what is sent for a request, and the error that the server gets."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        await ErrorLayer(app, handlers)(SCOPE, None, send)  # type: ignore[arg-type]  # unused
    except Exception as error:  # noqa: BLE001 - the server takes any
        return sent, error
    return sent, None


async def refuse(_request: Request, error: Exception) -> Response:
    """Present an error by the name of its class."""
    return Response(type(error).__name__, 418)


async def test_the_nearest_handler_presents_an_error_and_only_a_bug_is_raised_again() -> None:
    """The server logs what it gets, with a traceback."""

    async def fail(scope: Scope, _receive: Receive, _send: Send) -> None:
        raise scope["error"]

    results = []
    for error in (KeyError(), ZeroDivisionError()):
        SCOPE["error"] = error
        results.append(await answers(fail, {LookupError: refuse, Exception: refuse}))

    (known, nothing), (bug, raised) = results
    assert [known[1]["body"], bug[1]["body"]] == [b"KeyError", b"ZeroDivisionError"]
    assert nothing is None
    assert isinstance(raised, ZeroDivisionError)


async def test_an_error_after_the_start_of_the_response_is_the_servers() -> None:
    """A second response would be read as the rest of the first."""

    async def begin_and_fail(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError

    sent, raised = await answers(begin_and_fail, {LookupError: refuse, Exception: refuse})

    assert [message["type"] for message in sent] == ["http.response.start"]
    assert isinstance(raised, KeyError)


async def test_a_bug_in_a_layer_is_answered_like_one_in_a_route() -> None:
    """Only the server is outside of the layer that presents bugs."""

    class Broken:
        def __init__(self, app: Any) -> None:
            pass

        async def __call__(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
            raise ZeroDivisionError

    app = Application(exception_handlers={Exception: refuse})
    app.add_middleware(Broken)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(ZeroDivisionError):
        await app.build_middleware_stack()(SCOPE, None, send)  # type: ignore[arg-type]  # unused

    assert sent[0]["status"] == 418
