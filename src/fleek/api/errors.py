"""Problem documents (RFC 9457) and the HTTP status of each error class.

They never contain content of the request, a traceback, SQL, or a path.
Source: RFC 9457.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fleek.domain.errors import (
    CallbackRejected,
    Conflict,
    DatabaseUnavailable,
    DispatcherUnavailable,
    FleekError,
    Forbidden,
    Gone,
    HeadersTooLarge,
    HostError,
    InvalidInput,
    NotFound,
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
from fleek.schemas import Problem, ProblemField

STATUS: Final[Mapping[type[FleekError], int]] = {  # the nearest base class wins
    RequestError: 400,
    Unreadable: 400,
    Unauthorized: 401,
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


def _example(kind: type[FleekError]) -> Problem:
    detail = (kind.__doc__ or "").partition("\n")[0]
    field = ProblemField(pointer="/prompt", code="missing", detail="Field required")
    return problem(
        status_of(kind),
        kind.code,
        detail,
        request_id="b3c1f0a9d2e84c57",
        errors=[field] if kind is InvalidInput else (),
    )
