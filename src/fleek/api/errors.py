"""Errors as callers see them: RFC 9457 problems, with the status from the one table.

Never in an answer: what the caller sent, a traceback, SQL, a path of this machine.
Source: RFC 9457.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from itertools import takewhile
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match

from fleek.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    DispatcherUnavailable,
    FieldError,
    FleekError,
    Forbidden,
    Gone,
    HostError,
    InvalidInput,
    NotFound,
    ProviderError,
    RequestError,
    StorageError,
    StorageFull,
    TooLarge,
    TooMany,
    Unauthorized,
    Unreadable,
    Unsupported,
)
from fleek.schemas import Problem, ProblemField

log = structlog.get_logger(__name__)

STATUS: Final[Mapping[type[FleekError], int]] = {  # the nearest base class wins
    RequestError: 400,
    Unreadable: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Gone: 410,
    TooLarge: 413,
    Unsupported: 415,
    InvalidInput: 422,
    TooMany: 429,
    ProviderError: 502,
    HostError: 503,
    DatabaseUnavailable: 503,
    DispatcherUnavailable: 503,
    StorageError: 503,
    StorageFull: 507,
    FleekError: 500,
}

PROBLEM_JSON: Final = "application/problem+json"
RETRY_SECONDS: Final = 2  # after which a part that is out of order may be back
MAX_FIELDS: Final = 20
NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

CODES: Final[Mapping[int, tuple[str, str]]] = {  # what the router itself refuses
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take this method."),
    416: ("range_not_satisfiable", "The file ends before the range begins."),
}


def status_of(kind: type[FleekError]) -> int:
    """Return the HTTP status for errors of this kind."""
    return next(STATUS[base] for base in kind.__mro__ if base in STATUS)


def explain(error: FleekError) -> str:
    """Return what may be said about an error to anybody.

    The caller's own mistakes were worded for the caller. The message of any other error may hold
    what a library said; then the words are those of its class.
    """
    if isinstance(error, RequestError):
        return str(error)
    return (type(error).__doc__ or "Something went wrong.").partition("\n")[0]


def problems(*kinds: type[FleekError]) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses=`` of a route that may answer with these errors."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status = status_of(kind)
        text = (kind.__doc__ or "").partition("\n")[0]
        if status in responses:
            text = f"{responses[status]['description']} {text}"
        responses[status] = {
            "description": text,
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": _example(kind).model_dump(mode="json"),
                }
            },
        }
        if status in {429, 503}:
            responses[status]["headers"] = {
                "Retry-After": {
                    "description": "Seconds after which asking again may help.",
                    "schema": {"type": "integer"},
                }
            }
    return responses


def install(app: FastAPI) -> None:
    """Let every error of this application be answered as a problem."""
    app.add_exception_handler(FleekError, _on_fleek_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_refused)
    app.add_exception_handler(Exception, _on_crash)


async def _on_fleek_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FleekError)
    status = status_of(type(error))
    headers = {}
    if status >= 500:
        log.warning("request failed", code=error.code, reason=str(error), exc_info=status == 500)
    if status == 503:
        headers["Retry-After"] = str(RETRY_SECONDS)
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(max(1, round(error.retry_after.total_seconds())))
    fields = error.errors if isinstance(error, InvalidInput) else ()
    return _answer(
        request, status, error.code, explain(error), errors=_fields(fields), headers=headers
    )


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [_field(found) for found in error.errors()[:MAX_FIELDS]]
    first = fields[0]
    where = first.pointer.removeprefix("/").replace("/", ".") or first.location
    return _answer(request, 422, InvalidInput.code, f"{where}: {first.detail}", errors=fields)


async def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    phrase = HTTPStatus(status).phrase
    code, detail = CODES.get(status, (phrase.lower().replace(" ", "_"), f"{phrase}."))
    headers = dict(error.headers or {})
    if status == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return _answer(request, status, code, detail, headers=headers)


async def _on_crash(request: Request, _error: Exception) -> Response:
    """Answer for a mistake of ours; the server logs its traceback when it is raised again."""
    headers = {"X-Request-ID": _request_id(request)}
    return _answer(request, 500, FleekError.code, "Something went wrong.", headers=headers)


def _answer(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[ProblemField] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    problem = _problem(status, code, detail, request_id=_request_id(request), errors=errors)
    return Response(problem.model_dump_json(), status, headers=headers, media_type=PROBLEM_JSON)


def _problem(
    status: int, code: str, detail: str, *, request_id: str, errors: Sequence[ProblemField] = ()
) -> Problem:
    return Problem(
        type=f"urn:fleek:problem:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        instance=f"urn:fleek:request:{request_id}",
        code=code,
        request_id=request_id,
        errors=list(errors),
    )


def _example(kind: type[FleekError]) -> Problem:
    detail = (kind.__doc__ or "").partition("\n")[0]
    field = ProblemField(pointer="/prompt", code="missing", detail="Field required")
    return _problem(
        status_of(kind),
        kind.code,
        detail,
        request_id="b3c1f0a9d2e84c57",
        errors=[field] if kind is InvalidInput else (),
    )


def _request_id(request: Request) -> str:
    return str(request.scope.get("fleek.request_id", ""))


def _fields(errors: Sequence[FieldError]) -> list[ProblemField]:
    return [
        ProblemField(
            pointer=_pointer(error.pointer.split("/")[1:]), code=error.code, detail=error.detail
        )
        for error in errors[:MAX_FIELDS]
    ]


def _field(found: Mapping[str, Any]) -> ProblemField:
    location, *path = found["loc"]
    return ProblemField(
        location=location,
        pointer=_pointer([str(part) for part in path]),
        code=found["type"],
        detail=found["msg"].removeprefix("Value error, "),
    )


def _pointer(names: Sequence[str]) -> str:
    """Return the pointer down to the first name that is not a plain one: it is not repeated."""
    plain = takewhile(NAME.fullmatch, names)
    return "".join(f"/{name}" for name in plain)


def _methods(request: Request) -> set[str]:
    """Return every method that the request's address takes."""
    return {
        method
        for route in request.app.routes
        if isinstance(route, APIRoute) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
