"""Errors as problem documents (RFC 9457): the HTTP status of each class, and the handlers.

They never contain content of the request, a traceback, SQL, or a path.
Source: RFC 9457.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from itertools import takewhile
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from fleek.api import suggestions
from fleek.api.route_modules import load_documented
from fleek.domain.errors import (
    BudgetExceeded,
    CallbackRejected,
    CapacityExceeded,
    Conflict,
    DatabaseUnavailable,
    DispatcherUnavailable,
    FieldError,
    FleekError,
    Forbidden,
    Gone,
    HeadersTooLarge,
    HostError,
    InvalidInput,
    NotFound,
    Overloaded,
    ProviderError,
    ProviderUnavailable,
    RequestError,
    RequestTimeout,
    StorageError,
    StorageFull,
    TooLarge,
    TooMany,
    Unauthorized,
    Unreadable,
    Unsupported,
    UriTooLong,
)
from fleek.domain.text import one_line
from fleek.domain.values import dataclass
from fleek.schemas import Problem, ProblemField

STATUS: Final[Mapping[type[FleekError], int]] = {  # the nearest base class wins
    RequestError: 400,
    Unreadable: 400,
    Unauthorized: 401,
    BudgetExceeded: 402,
    Forbidden: 403,
    NotFound: 404,
    RequestTimeout: 408,
    Conflict: 409,
    Gone: 410,
    TooLarge: 413,
    UriTooLong: 414,
    Unsupported: 415,
    InvalidInput: 422,
    TooMany: 429,
    HeadersTooLarge: 431,
    CallbackRejected: 401,
    ProviderUnavailable: 503,
    ProviderError: 502,
    HostError: 503,
    DatabaseUnavailable: 503,
    DispatcherUnavailable: 503,
    StorageError: 503,
    StorageFull: 507,
    FleekError: 500,
}

PROBLEM_JSON: Final = "application/problem+json"
MAX_DETAIL: Final = 500  # characters


def status_of(kind: type[FleekError]) -> int:
    """Return the HTTP status for errors of this kind."""
    return next(STATUS[base] for base in kind.__mro__ if base in STATUS)


def explain(error: FleekError) -> str:
    """Return the public description of an error.

    Messages of request errors are written for callers. Messages of other errors may contain text of
    libraries; their public description is that of the class.
    """
    if isinstance(error, RequestError):
        return str(error)
    return (type(error).__doc__ or "An internal error occurred.").partition("\n")[0]


def problems(*kinds: type[FleekError]) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses=`` of a route that may respond with these errors."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status = status_of(kind)
        detail = text = (kind.__doc__ or "").partition("\n")[0]
        if status in responses:
            text = f"{responses[status]['description']} {text}"
        responses[status] = {
            "description": text,
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": _example(status, kind.code, detail),
                }
            },
        }
        if status in {429, 503}:
            responses[status]["headers"] = {
                "Retry-After": {
                    "description": "Seconds to wait before the next try.",
                    "schema": {"type": "integer"},
                }
            }
    return responses


def problem(
    status: int, code: str, detail: str, *, request_id: str, errors: Sequence[ProblemField] = ()
) -> Problem:
    """Return the document for one error."""
    return Problem(
        type=f"urn:fleek:problem:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=one_line(detail, MAX_DETAIL),
        instance=f"urn:fleek:request:{request_id}",
        code=code,
        request_id=request_id,
        errors=list(errors),
    )


@cache
def _example(status: int, code: str, detail: str) -> dict[str, Any]:
    field = ProblemField(pointer="/prompt", code="missing", detail="Field required")
    errors = [field] if code == InvalidInput.code else ()
    document = problem(status, code, detail, request_id="b3c1f0a9d2e84c57", errors=errors)
    return document.model_dump(mode="json")


log = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 2  # Retry-After while a part is unavailable
MAX_FIELDS: Final = 20
MAX_SUGGESTED: Final = 5  # fields for which a similar name is looked for
NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

CODES: Final[Mapping[int, tuple[str, str]]] = {  # errors of the router itself
    404: ("not_found", "No such route."),
    405: ("method_not_allowed", "This route does not support this method."),
    416: ("range_not_satisfiable", "The range starts after the end of the file."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error of a request, for whoever presents it."""

    status: int
    code: str
    detail: str
    errors: Sequence[ProblemField]
    headers: Mapping[str, str]
    request_id: str


ErrorForm = Callable[[Refusal], Response]
"""Presents an error in the form of another service."""


def install(app: FastAPI, forms: Mapping[str, ErrorForm]) -> None:
    """Register the handlers that answer every error with a problem document.

    Below a path whose first part is a key of `forms`, it is presented in that form.
    """
    app.state.error_forms = forms
    app.add_exception_handler(FleekError, _on_fleek_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_refused)
    app.add_exception_handler(Exception, _on_crash)


async def _on_fleek_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FleekError)
    return answer(request, error)


def answer(request: Request, error: FleekError) -> Response:
    """Return the problem document of an error, and log it unless the caller caused it."""
    status = status_of(type(error))
    headers = {}
    expected = isinstance(error, CapacityExceeded | Overloaded)  # thousands a second; counted
    if status >= 500 and not expected:
        log.warning("request_failed", code=error.code, reason=str(error), exc_info=status == 500)
    if status == 503:
        headers["Retry-After"] = str(RETRY_SECONDS)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after.total_seconds())))
    fields = error.errors if isinstance(error, InvalidInput) else ()
    return _answer(
        request, status, error.code, explain(error), errors=present_fields(fields), headers=headers
    )


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    known = error.errors()[:MAX_FIELDS]
    kind = _body_of(request)
    fields = [_field(kind, found) for found in known[:MAX_SUGGESTED]]
    fields += [_plain_field(found, found["msg"]) for found in known[MAX_SUGGESTED:]]
    fields.sort(key=lambda field: field.suggestion is None)  # a misspelt field seems missing, too
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
    errors = []
    ours = _form(request) is None
    if ours and status == 404 and (suggestion := _route(request)) is not None:
        detail = suggestion.detail
        errors.append(
            ProblemField(
                location="path",
                pointer="",
                code="unknown_path",
                detail=detail,
                suggestion=suggestion.target,
            )
        )
    return _answer(request, status, code, detail, errors=errors, headers=headers)


def _route(request: Request) -> suggestions.Suggestion | None:
    with suppress(HostError):  # no suggestion is worth a failure: those that are loaded will do
        load_documented(request.app)
    routes = (route for route in request.app.routes if isinstance(route, APIRoute))
    documented = (route.path_format for route in routes if route.include_in_schema)
    return suggestions.for_path(request.url.path, documented)


async def _on_crash(request: Request, _error: Exception) -> Response:
    """Answer for a bug; the server logs the traceback when the error is raised again."""
    return _answer(request, 500, FleekError.code, "An internal error occurred.")


def _answer(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[ProblemField] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    refusal = Refusal(
        status=status,
        code=code,
        detail=one_line(detail, MAX_DETAIL),
        errors=errors,
        headers=headers or {},
        request_id=_request_id(request),
    )
    return (_form(request) or present)(refusal)


def present(refusal: Refusal) -> Response:
    """Present an error in our own form, as a problem document."""
    body = problem(
        refusal.status,
        refusal.code,
        refusal.detail,
        request_id=refusal.request_id,
        errors=refusal.errors,
    )
    return Response(
        body.model_dump_json(), refusal.status, headers=refusal.headers, media_type=PROBLEM_JSON
    )


def _form(request: Request) -> ErrorForm | None:
    if "app" not in request.scope:  # a refusal before the application
        return None
    forms: Mapping[str, ErrorForm] = request.app.state.error_forms
    return forms.get(request.scope["path"][1:].partition("/")[0])


def _request_id(request: Request) -> str:
    return str(request.scope.get("fleek.request_id", ""))


def present_fields(errors: Sequence[FieldError]) -> list[ProblemField]:
    """Return the invalid parts of a request as responses have them, 20 at most."""
    return [
        ProblemField(
            location=error.location,
            pointer=_pointer(error.pointer.split("/")[1:]),
            code=error.code,
            detail=one_line(error.detail, MAX_DETAIL),
            suggestion=error.suggestion,
        )
        for error in errors[:MAX_FIELDS]
    ]


def mistakes(kind: Any, error: ValidationError) -> list[FieldError]:
    """Return the mistakes in a value that was to become one of `kind`, for an `InvalidInput`."""
    known: list[dict[str, Any]] = [
        {**found, "loc": ("body", *found["loc"])} for found in error.errors()[:MAX_FIELDS]
    ]
    fields = [_field(kind, found) for found in known[:MAX_SUGGESTED]]
    fields += [_plain_field(found, found["msg"]) for found in known[MAX_SUGGESTED:]]
    return [
        FieldError(field.pointer, field.code, field.detail, suggestion=field.suggestion)
        for field in sorted(fields, key=lambda field: field.suggestion is None)
    ]


def _field(kind: Any, found: Mapping[str, Any]) -> ProblemField:
    """Present an error with what was probably meant."""
    if found["type"] != "extra_forbidden":
        return _plain_field(found, found["msg"])
    *parents, name = (str(part) for part in found["loc"][1:])
    suggestion = suggestions.for_field(name, suggestions.fields_at(kind, parents))
    target = suggestion.target and _pointer(parents) + suggestion.target
    return _plain_field(found, suggestion.detail, target)


def _plain_field(
    found: Mapping[str, Any], detail: str, suggestion: str | None = None
) -> ProblemField:
    location, *path = found["loc"]
    if location == "query":
        path = path[:1]  # its name; not which of several values
    return ProblemField(
        location=location,
        pointer=_pointer([str(part) for part in path]),
        code=found["type"],
        detail=one_line(detail.removeprefix("Value error, "), MAX_DETAIL),
        suggestion=suggestion,
    )


def _body_of(request: Request) -> Any:
    """Return the type of the body that the route takes; None: it takes none."""
    body = getattr(request.scope.get("route"), "body_field", None)
    return None if body is None else body.field_info.annotation


def _pointer(names: Sequence[str]) -> str:
    """Return the pointer up to the first name with special characters, which is not repeated."""
    plain = takewhile(NAME.fullmatch, names)
    return "".join(f"/{name}" for name in plain)


def _methods(request: Request) -> set[str]:
    """Return every method that the address of the request supports."""
    return {
        method
        for route in request.app.routes
        if isinstance(route, APIRoute) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
