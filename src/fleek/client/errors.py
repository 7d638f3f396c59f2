"""What can go wrong between a client and a server.

::

    FleekError
    ├── RequestError …           the server refuses: NotFound, Conflict, InvalidInput, Unauthorized …
    │                            the classes of `fleek.domain.errors`, as the server raised them
    ├── ConfigurationError       the address or the key cannot be used
    └── ClientError              what only a client meets
        ├── ServerUnreachable    nothing was sent: refused, unknown host, TLS
        │   └── AnswerLost       something was sent and no whole answer came back
        ├── ServerError          an answer that is a fault of the server's, or not Fleek's at all
        │   └── ServerBusy       it cannot serve now; asking again after `retry_after` can help
        ├── WaitTimeout          the job goes on, we have stopped waiting for it
        ├── JobFailed            the job has ended as failed or cancelled
        └── NotSaved             the file cannot be written here
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from fleek.domain.errors import FleekError

if TYPE_CHECKING:
    from fleek.schemas import JobRead


class ClientError(FleekError):
    """Something that only a client meets."""

    code = "client_error"


class ServerUnreachable(ClientError):
    """No connection to the server: nothing was sent."""

    code = "server_unreachable"
    retryable = True


class AnswerLost(ServerUnreachable):
    """Something was sent and no whole answer came back: it may have been done."""

    code = "answer_lost"


class ServerError(ClientError):
    """The server failed, or what answers there is not Fleek."""

    code = "server_error"


class ServerBusy(ServerError):
    """The server cannot serve now; `retry_after` is when it asks to be asked again."""

    code = "server_busy"
    retryable = True

    def __init__(
        self, message: str, *, code: str | None = None, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class WaitTimeout(ClientError):
    """The time to wait is over and the job is not; it goes on. `job` is its last sight."""

    code = "wait_timeout"

    def __init__(self, message: str, *, job: "JobRead | None") -> None:
        super().__init__(message)
        self.job = job


class JobFailed(ClientError):
    """The job has ended as failed or cancelled; `job` says why."""

    code = "job_failed"

    def __init__(self, job: "JobRead") -> None:
        reason = f": {job.error_message}" if job.error_message else ""
        super().__init__(f"job {job.id} {job.status}{reason}", code=job.error_code)
        self.job = job


class NotSaved(ClientError):
    """The file cannot be written here: no folder, no right, no room."""

    code = "not_saved"
