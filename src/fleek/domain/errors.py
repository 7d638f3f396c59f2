"""All errors of the service, in one tree. The branch determines who must act.

::

    FleekError
    ├── RequestError             the caller must act
    │   ├── Unreadable           not JSON, or not valid HTTP
    │   │   └── BadIdempotencyKey
    │   ├── BadEventId           Last-Event-ID is none of ours
    │   ├── UnknownHost          the Host header names no address of this service
    │   ├── RequestTimeout       the request was too slow
    │   ├── UriTooLong
    │   ├── HeadersTooLarge
    │   ├── AmbiguousCredentials   several keys, or the same header twice
    │   ├── KeyInQuery           a key in the address, where logs keep it
    │   ├── InvalidInput         readable, but not valid
    │   │   └── IdempotencyKeyReused   the key belongs to another request
    │   ├── Unauthorized
    │   ├── Forbidden
    │   │   ├── ForeignOrigin        sent by a browser for a page of another site
    │   │   ├── InsufficientScope    the key lacks the scope of the route
    │   │   └── TenantDisabled       an operator has disabled the tenant of the key
    │   ├── BudgetExceeded       a budget has no room for the job
    │   ├── NotFound             unknown, or of another tenant
    │   ├── Conflict             the job's state forbids it
    │   ├── Gone                 it has been purged
    │   ├── TooLarge
    │   ├── Unsupported          a media type or encoding that is not accepted
    │   └── TooMany              over a limit; temporary
    │       ├── TooManyJobs      of the tenant, that have not ended
    │       ├── TooManyUploads   bytes of the tenant's uploads
    │       └── RateLimited      too many requests of the key
    ├── ProviderError            a provider failed
    │   ├── ProviderRejected     permanent; nothing was paid for
    │   │   └── InputUnusable    a media input is gone, not safe or not acceptable
    │   ├── ProviderUnavailable  nothing was paid for; may be tried again
    │   ├── OutcomeUnknown       a prediction may have been created
    │   ├── CallbackRejected     a callback that the provider did not sign
    │   ├── OutputBroken         the bytes are not those announced; may be fetched again
    │   │   ├── ErrorPage        an error page instead of the file
    │   │   └── OutputInterrupted   the download was cut off
    │   ├── OutputMissing        its address responds with 404 or the like; ask the provider
    │   ├── OutputUnsafe         the output must not be fetched or stored
    │   └── OutputGone           the provider no longer has the output
    ├── HostError                a part of this installation failed; temporary
    │   ├── CapacityExceeded     too many connections, or too many bytes of requests
    │   │   └── TooManyStreams   too many open event streams
    │   ├── DatabaseUnavailable
    │   │   ├── Overloaded       refused without any effect, as it would take too long
    │   │   └── WriteUnknown     not confirmed in time; it may have been written
    │   ├── DispatcherUnavailable
    │   ├── StillRunning
    │   ├── InputUnreachable     a media input cannot be fetched now
    │   ├── ModerationUnavailable   no answer of the moderation service now
    │   ├── AddressNotSigned     no address that takes a file can be given now
    │   ├── SigningFailed        an output could not be signed
    │   ├── ResourcesExhausted   this process has no free descriptors, memory or threads
    │   └── StorageError
    │       └── StorageFull
    ├── ConfigurationError       the operator must act; stops the process at start
    │   └── BackupBroken         a backup is not what was written
    └── InternalError            a defect of the service; its subclasses never leave the engine
        ├── IllegalTransition    the job's state forbids the change
        ├── StaleJob             the job was changed meanwhile
        │   ├── TenantBusy       as many jobs of its tenant run as may, or it is disabled: it waits
        │   └── OutOfBudget      there is no money for another attempt: it waits
        ├── PredictionTaken      the prediction is bound to another attempt
        ├── AttemptClosed        the attempt has a verdict or another prediction
        └── WorkerSuspended      the worker's lease may have expired: it must not start predictions

``code`` is public and stable; ``retryable`` is whether another attempt can help.
HTTP statuses live in `fleek.api.errors`, exit codes in `fleek.cli`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar, Literal

from fleek.domain.values import dataclass


class FleekError(Exception):
    """Base class of all errors of this package."""

    code: str = "internal_error"
    retryable: ClassVar[bool] = False
    request_id: str | None = None
    """Of the request that a server has refused, as its log has it; None: there was none."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class RequestError(FleekError):
    """The caller must change the request."""

    code = "bad_request"


class Unreadable(RequestError):
    """The request cannot be read: not JSON, wrong encoding, duplicate keys."""

    code = "unreadable"


class BadIdempotencyKey(Unreadable):
    """The Idempotency-Key is not 1-255 visible ASCII characters, or is sent twice."""

    code = "bad_idempotency_key"


class BadEventId(RequestError):
    """`Last-Event-ID` is not the id of an event of this stream."""

    code = "bad_event_id"


class UnknownHost(RequestError):
    """The Host header names no address of this service."""

    code = "unknown_host"


class RequestTimeout(RequestError):
    """The request did not arrive in time."""

    code = "request_timeout"


class UriTooLong(RequestError):
    """The address of the request is longer than the limit."""

    code = "uri_too_long"


class HeadersTooLarge(RequestError):
    """The headers of the request exceed the limit of size or number."""

    code = "headers_too_large"


class AmbiguousCredentials(RequestError):
    """The request has more than one key."""

    code = "ambiguous_credentials"


class KeyInQuery(RequestError):
    """The address contains a key: addresses are logged, so it should be revoked."""

    code = "key_in_query"


ErrorLocation = Literal["body", "path", "query", "header"]


@dataclass(frozen=True, slots=True)
class FieldError:
    """A mistake in one field, without the field's value."""

    pointer: str  # JSON pointer, RFC 6901: "/parameters/width"
    code: str
    detail: str
    location: ErrorLocation = "body"
    suggestion: str | None = None  # JSON pointer of the field that was probably meant


class InvalidInput(RequestError):
    """The request can be read, but is not valid. `errors` names the fields."""

    code = "invalid_input"

    def __init__(
        self, message: str, *, code: str | None = None, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(message, code=code)
        self.errors = tuple(errors)


class IdempotencyKeyReused(InvalidInput):
    """The Idempotency-Key was sent with another request before."""

    code = "idempotency_key_reused"


class Unauthorized(RequestError):
    """A key is missing or not valid."""

    code = "unauthorized"


class Forbidden(RequestError):
    """The key is valid and does not allow this."""

    code = "forbidden"


class ForeignOrigin(Forbidden):
    """A page of another site may not change anything here."""

    code = "cross_site_request"


class InsufficientScope(Forbidden):
    """The key lacks the required scope."""

    code = "insufficient_scope"


class TenantDisabled(Forbidden):
    """The tenant of the key is disabled: only an operator can enable it again."""

    code = "tenant_disabled"


class BudgetExceeded(RequestError):
    """A budget has no room for what the job will cost; it is not accepted."""

    code = "budget_exceeded"


class NotFound(RequestError):
    """It does not exist, or belongs to another tenant: the response is the same."""

    code = "not_found"


class Conflict(RequestError):
    """The job's state does not allow the request."""

    code = "conflict"


class Gone(RequestError):
    """It has been purged."""

    code = "gone"


class TooLarge(RequestError):
    """The request is larger than the limit."""

    code = "too_large"


class Unsupported(RequestError):
    """A media type or an encoding that is not accepted."""

    code = "unsupported_media_type"


class TooMany(RequestError):
    """A limit is exceeded. The request may be repeated after `retry_after`."""

    code = "too_many_requests"
    retryable = True

    def __init__(self, message: str, *, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyJobs(TooMany):
    """The tenant has as many unfinished jobs as it may have; the request had no effect."""

    code = "too_many_jobs"


class TooManyUploads(TooMany):
    """The tenant's uploads have as many bytes as they may have; nothing was stored."""

    code = "too_many_uploads"


class RateLimited(TooMany):
    """The key, or the address, has sent too many requests lately; the request had no effect."""

    code = "rate_limited"


class ProviderError(FleekError):
    """A provider failed."""

    code = "provider_error"


class ProviderRejected(ProviderError):
    """The provider refused permanently; nothing was paid for."""

    code = "provider_rejected"


class InputUnusable(ProviderRejected):
    """A media input of the job cannot be used; nothing was paid for."""

    code = "input_unusable"


class ProviderUnavailable(ProviderError):
    """Nothing was paid for; the call may be repeated, not before `retry_after`."""

    code = "provider_unavailable"
    retryable = True

    def __init__(
        self, message: str, *, code: str | None = None, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class OutcomeUnknown(ProviderError):
    """A request was sent, and no readable response was received: it may have been paid for."""

    code = "provider_outcome_unknown"


class CallbackRejected(ProviderError):
    """A callback with a wrong signature, time or form."""

    code = "callback_rejected"


class OutputBroken(ProviderError):
    """The file is empty or not as announced; fetching it again can help."""

    code = "output_broken"
    retryable = True


class ErrorPage(OutputBroken):
    """The host sent an error page instead of the output, e.g. during maintenance."""


class OutputInterrupted(OutputBroken):
    """The download was cut off, or too slow: the network or the host of the output failed."""

    code = "output_interrupted"


class OutputMissing(ProviderError):
    """The output's address responds with 403, 404 or 410. The provider may have a reason."""

    code = "output_missing"
    retryable = True


class OutputUnsafe(ProviderError):
    """The output's address or size is not allowed; it is never fetched."""

    code = "unsafe_output"


class OutputGone(ProviderError):
    """The provider no longer has the output: it is paid for and lost."""

    code = "output_expired"


class HostError(FleekError):
    """A part of this installation failed; the operation is repeated automatically."""

    code = "unavailable"
    retryable = True


class CapacityExceeded(HostError):
    """The server has too many connections or requests; the request may be sent again."""

    code = "server_busy"


class TooManyStreams(CapacityExceeded):
    """There are too many open event streams: close one, or open it again later."""

    code = "too_many_streams"


class DatabaseUnavailable(HostError):
    """The database cannot be reached, or is busy for too long."""

    code = "database_unavailable"


class Overloaded(DatabaseUnavailable):
    """The request would take more than a second: it had no effect; send it again later."""

    code = "overloaded"


class WriteUnknown(DatabaseUnavailable):
    """The database did not confirm the write in time: check the result before a repetition."""

    code = "write_unknown"


class StillRunning(HostError):
    """The job has not ended in time for this response; it goes on, and the same request finds it."""

    code = "still_running"
    retryable = True


class DispatcherUnavailable(HostError):
    """The dispatcher cannot be reached; jobs are safe and start later."""

    code = "dispatcher_unavailable"


class InputUnreachable(HostError):
    """A media input cannot be fetched from its address now."""

    code = "input_unreachable"


class ModerationUnavailable(HostError):
    """The moderation service has no answer now."""

    code = "moderation_unavailable"


class AddressNotSigned(HostError):
    """Addresses that take files cannot be signed now: send the file with a key to /api/v1/uploads."""

    code = "address_not_signed"


class SigningFailed(HostError):
    """An output could not be signed."""

    code = "signing_failed"


class ResourcesExhausted(HostError):
    """This process has no free file descriptors, memory or threads now."""

    code = "resources_exhausted"


class StorageError(HostError):
    """The storage cannot be read or written."""

    code = "storage_unavailable"


class StorageFull(StorageError):
    """There is no free space for files or rows."""

    code = "storage_full"


class ConfigurationError(FleekError):
    """A setting is wrong. The message names it and lists the choices."""

    code = "configuration"


class BackupBroken(ConfigurationError):
    """A backup is not what was written, so nothing was restored from it."""

    code = "backup_broken"


class InternalError(FleekError):
    """A defect of the service, or a race between its own workers."""


class IllegalTransition(InternalError):
    """The job's state forbids this change."""

    code = "illegal_transition"


class StaleJob(InternalError):
    """The job was changed after it was read; nothing was written."""

    code = "stale_job"


class TenantBusy(StaleJob):
    """As many jobs of the tenant run as may, or it is disabled: this one waits; nothing was written."""

    code = "tenant_busy"


class OutOfBudget(StaleJob):
    """A budget has no room for another attempt of the job: it waits; nothing was written."""

    code = "budget_exceeded"


class PredictionTaken(InternalError):
    """This prediction is already bound to another attempt."""

    code = "prediction_taken"


class AttemptClosed(InternalError):
    """The attempt has a verdict or another prediction: a further prediction is an orphan."""

    code = "attempt_settled"


class WorkerSuspended(InternalError):
    """The worker's lease may have expired: it must not start a prediction."""

    code = "worker_suspended"
    retryable = True
