"""Replicate's HTTP API."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from fleek.emulator.dialect import Dialect
from fleek.emulator.plan import Plan
from fleek.emulator.replicate import catalog_routes, create, read_routes, stream, uploads
from fleek.emulator.replicate.representation import NAME, present
from fleek.emulator.responses import NOT_FOUND, answer, plain_error


def _routes() -> list[Route]:
    return [
        *read_routes.routes(),
        *create.routes(),
        *catalog_routes.routes(),
        *uploads.routes(),
        *stream.routes(),
    ]


def _error(
    _plan: Plan, status: int, text: str, title: str | None, headers: Mapping[str, str] | None
) -> Response:
    if status == 404 and text == NOT_FOUND:
        return answer({"detail": text, "status": 404}, 404)
    return plain_error(status, text, title, headers)


def _is_signed(scope: Scope) -> bool:
    return scope["path"].endswith("/download") and b"signature=" in scope["query_string"]


DIALECT: Final = Dialect(
    name=NAME,
    prefix="/v1",
    routes=_routes,
    creates=lambda path: path.endswith("/predictions"),
    error=_error,
    present=present,
    is_open=_is_signed,
)
