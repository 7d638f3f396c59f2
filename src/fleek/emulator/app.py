"""The emulator as an ASGI application."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator import catalog_routes, control, create, files, read_routes, stream, uploads
from fleek.emulator.account import Account
from fleek.emulator.callbacks import Callbacks
from fleek.emulator.control import LoopbackOnly
from fleek.emulator.middleware import RequestMiddleware
from fleek.emulator.responses import answer, missing, problem


def create_app(account: Account, callbacks: Callbacks) -> ASGIApp:
    """Build the API, the host of output files and the control API, all on one port.

    The connection-level faults need `server.Protocol` underneath; everything else runs on any
    ASGI server.
    """
    routes = [
        *read_routes.routes(),
        *create.routes(),
        *files.routes(),
        *catalog_routes.routes(),
        *uploads.routes(),
        *stream.routes(),
        *control.routes(),
        Route("/", _root),
    ]
    return _wrapped(routes, account, callbacks)


def create_delivery(account: Account, callbacks: Callbacks) -> ASGIApp:
    """Build the host of output files alone, for a port of its own."""
    return _wrapped(files.routes(), account, callbacks)


def _wrapped(routes: list[Route], account: Account, callbacks: Callbacks) -> ASGIApp:
    app = Starlette(routes=routes, exception_handlers={HTTPException: _problem})
    app.state.account = account
    app.state.callbacks = callbacks
    return LoopbackOnly(RequestMiddleware(app, account))


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return missing() if error.status_code == 404 else problem(error.status_code, error.detail)


async def _root(_: Request) -> ASGIApp:
    return answer({"docs_url": "https://docs.replicate.com/reference/http", "emulator": True})
