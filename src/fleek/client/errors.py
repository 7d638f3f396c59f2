"""Errors of the client, and problem details of the server (RFC 9457) read as errors.

::

    FleekError
    ├── RequestError …           the server refuses a request: NotFound, Conflict, InvalidInput, Unauthorized …
    │                            the classes of `fleek.domain.errors`, as the server raised them
    ├── ConfigurationError       the address or the API key is unusable
    └── ClientError              errors that only a client meets
        ├── ServerUnreachable    nothing was sent: connection refused, unknown host, TLS
        │   └── ResponseLost       the request was sent and its answer was lost
        ├── ServerError          an error of the server, or an answer that is not Fleek's
        │   └── ServerBusy       temporarily unavailable; retry after `retry_after`
        ├── WaitTimeout          the job has not ended within the timeout; it goes on
        ├── JobFailed            the job has failed or was cancelled
        ├── NotSaved             the downloaded file cannot be written
        └── InvalidSignature     a webhook is not from the server, or too old

An error of the server has the `code` of its problem, and the `request_id` that its log shows.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, get_args

from fleek.domain.errors import (
    BudgetExceeded,
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

if TYPE_CHECKING:
    import httpx2

    from fleek.client.models import JobRead


class ClientError(FleekError):
    """An error that only a client meets."""

    code = "client_error"


class ServerUnreachable(ClientError):
    """No connection to the server: nothing was sent."""

    code = "server_unreachable"
    retryable = True


class ResponseLost(ServerUnreachable):
    """The request was sent and its answer was lost: it may have had its effect."""

    code = "answer_lost"


class ServerError(ClientError):
    """The server failed, or is not a Fleek server."""

    code = "server_error"


class ServerBusy(ServerError):
    """The server is temporarily unavailable; `retry_after` is the delay it asks for."""

    code = "server_busy"
    retryable = True

    def __init__(
        self, message: str, *, code: str | None = None, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class WaitTimeout(ClientError):
    """The job has not ended within the timeout; it goes on. `job` is its last known state."""

    code = "wait_timeout"

    def __init__(self, message: str, *, job: "JobRead | None") -> None:
        super().__init__(message)
        self.job = job


class JobFailed(ClientError):
    """The job has failed or was cancelled; `job` says why."""

    code = "job_failed"

    def __init__(self, job: "JobRead") -> None:
        reason = f": {job.error_message}" if job.error_message else ""
        super().__init__(f"job {job.id} {job.status}{reason}", code=job.error_code)
        self.job = job


class NotSaved(ClientError):
    """The file cannot be written: no such folder, no permission, or no space left."""

    code = "not_saved"


class InvalidSignature(ClientError):
    """The webhook was not signed with this secret, or its signature is too old."""

    code = "invalid_signature"


REFUSALS: Final[Mapping[int, type[RequestError]]] = {
    400: Unreadable,
    401: Unauthorized,
    402: BudgetExceeded,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    415: Unsupported,
}

LOCATIONS: Final[Mapping[str, ErrorLocation]] = {name: name for name in get_args(ErrorLocation)}


def parsed(response: "httpx2.Response", content: bytes) -> Any:
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


def refusal(response: "httpx2.Response", content: bytes) -> FleekError:
    """Return the error for an answer that refuses a request; it has the id of the request."""
    error = _refusal(response, content)
    error.request_id = response.headers.get("x-request-id")
    return error


def _refusal(response: "httpx2.Response", content: bytes) -> FleekError:
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
            suggestion=_text(error.get("suggestion")),
        )
        for error in errors
        if isinstance(error, dict)
    ]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _retry_after(response: "httpx2.Response") -> timedelta | None:
    asked = response.headers.get("retry-after", "")
    if not (asked.isascii() and asked.isdigit()):  # a date, or nothing: the retry policy decides
        return None
    return timedelta(seconds=min(int(asked[:9]), 86_400))
