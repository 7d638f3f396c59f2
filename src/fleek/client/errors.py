"""Errors of the client.

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
        └── NotSaved             the downloaded file cannot be written
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from fleek.domain.errors import FleekError

if TYPE_CHECKING:
    from fleek.schemas import JobRead


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
