"""Errors in Replicate's form: ``{"title", "detail", "status"}``; `detail` names the fields."""

from http import HTTPStatus
from typing import Final

from fastapi.responses import JSONResponse, Response

from fleek.api.errors import Refusal
from fleek.api.facades.routes import names_nothing
from fleek.schemas import ProblemField

TITLES: Final = {401: "Unauthenticated", 422: "Input validation failed", 429: "Too many requests"}


NOT_FOUND: Final = "The requested resource could not be found."


def present_error(refusal: Refusal) -> Response:
    """Return the response to a refused request."""
    status = 404 if names_nothing(refusal) else refusal.status
    lines = [_line(field) for field in refusal.errors] if status == 422 else []
    body = {
        "title": TITLES.get(status, HTTPStatus(status).phrase),
        "detail": "".join(lines) or (NOT_FOUND if names_nothing(refusal) else refusal.detail),
        "status": status,
    }
    return JSONResponse(body, status, headers=dict(refusal.headers))


def _line(field: ProblemField) -> str:
    name = named(field.pointer) or field.location
    return f"- {name}: {field.detail}\n"


def named(pointer: str) -> str:
    """Return the caller's name of a field of ours."""
    first, *rest = pointer.removeprefix("/").split("/")
    known = {"parameters": "input", "prompt": "input.prompt", "model_name": "version"}
    first = known.get(first, {"webhook_url": "webhook"}.get(first, first))
    return ".".join([first, *rest])
