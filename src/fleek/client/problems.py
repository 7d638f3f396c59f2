"""Problem details of the server, as errors.

Source: RFC 9457.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, get_args

import httpx2

from fleek.client.errors import ServerBusy, ServerError
from fleek.domain.errors import (
    Conflict,
    ErrorLocation,
    FieldError,
    FleekError,
    Forbidden,
    Gone,
    InvalidInput,
    NotFound,
    RequestError,
    TooLarge,
    TooMany,
    Unauthorized,
    Unreadable,
    Unsupported,
)

REFUSALS: Final[Mapping[int, type[RequestError]]] = {
    400: Unreadable,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    415: Unsupported,
}

LOCATIONS: Final[Mapping[str, ErrorLocation]] = {name: name for name in get_args(ErrorLocation)}


def parsed(response: httpx2.Response, content: bytes) -> Any:
    """Return the JSON of an answer.

    Raises:
        ServerError: It is not JSON, so it is not Fleek's.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    try:
        if kind == "application/json" or kind.endswith("+json"):
            return json.loads(content)
    except (ValueError, RecursionError):
        kind = "broken JSON"
    raise ServerError(
        f"{response.request.url} answers {response.status_code} with {kind or 'nothing readable'},"
        " not Fleek's JSON; is the address right?"
    )


def refusal(response: httpx2.Response, content: bytes) -> FleekError:
    """Return the error for an answer that refuses a request."""
    try:
        problem = parsed(response, content)
    except ServerError as error:
        return error
    if not isinstance(problem, dict):
        problem = {}
    status = response.status_code
    message = str(problem.get("detail") or problem.get("title") or f"refused with {status}")
    code = str(problem["code"]) if "code" in problem else None
    if status == 429:
        asked = _retry_after(response)
        return TooMany(message, retry_after=timedelta(seconds=1) if asked is None else asked)
    if status == 422:
        return InvalidInput(message, code=code, errors=_fields(problem))
    if status in {502, 503, 504, 507}:
        return ServerBusy(message, code=code, retry_after=_retry_after(response))
    if status >= 500:
        request_id = response.headers.get("x-request-id", "unknown")
        return ServerError(f"{message} (request {request_id})", code=code)
    return REFUSALS.get(status, RequestError)(message, code=code)


def _fields(problem: Mapping[str, Any]) -> list[FieldError]:
    errors = problem.get("errors")
    if not isinstance(errors, list):
        return []
    return [
        FieldError(
            pointer=str(error.get("pointer", "")),
            code=str(error.get("code", "")),
            detail=str(error.get("detail", "")),
            location=LOCATIONS.get(str(error.get("location")), "body"),
        )
        for error in errors
        if isinstance(error, dict)
    ]


def _retry_after(response: httpx2.Response) -> timedelta | None:
    asked = response.headers.get("retry-after", "")
    if not (asked.isascii() and asked.isdigit()):  # a date, or nothing: the retry policy decides
        return None
    return timedelta(seconds=min(int(asked[:9]), 86_400))
