"""``Idempotency-Key``, and repetitions without one: how a request is told from another.

Source: draft-ietf-httpapi-idempotency-key-header; the clients that Stainless generates, such as
OpenAI's and Replicate's, count their retries in ``x-stainless-retry-count``.
"""

import hashlib
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Annotated, Any, Final

from fastapi import Header
from fastapi.requests import Request

from fleek import strict
from fleek.api.deps import caller, runtime
from fleek.api.headers import headers_of
from fleek.domain.errors import BadIdempotencyKey
from fleek.domain.idempotency import KEY, RequestIdentity
from fleek.domain.job import JobId, JobRequest
from fleek.store import jobs
from fleek.store.jobs import Accepted, JobView

HEADER: Final = "Idempotency-Key"
RETRY_COUNT: Final = "x-stainless-retry-count"
KEY_HEADER: Final = HEADER.lower().encode()
RETRY_HEADER: Final = RETRY_COUNT.encode()
RETRY_WINDOW: Final = timedelta(seconds=120)  # a client's retries follow within seconds

IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        alias=HEADER,
        description="1-255 visible ASCII characters, chosen by the caller, new for each new job. "
        "The same request with the same key returns the same job, as it is then, with the status "
        "of the first response and `Idempotent-Replayed: true`. With another request it is "
        "refused with 422. Keys are kept for 24 hours (`IDEMPOTENCY_HOURS`); a request that was "
        "refused leaves none.",
        examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ),
]
"""Declares the header for a route; `identify` reads it."""

REPLAYED: Final[dict[str, Any]] = {
    "Idempotent-Replayed": {
        "description": "`true`, if the request repeats an earlier one: the job is that of the "
        "earlier one.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}
"""The header of a response to a repeated request."""


def _default(field: Any) -> Any:
    factory = field.default_factory
    return field.default if not callable(factory) else factory()


DEFAULTS: Final = {
    field.name: _default(field) for field in fields(JobRequest) if field.name != "key_id"
}
"""What each field of a request holds if nothing is said; see `identify`."""

_fields = attrgetter(*DEFAULTS)


def key_of(request: Request) -> str | None:
    """Return the key of a request, None without one.

    Raises:
        BadIdempotencyKey: It has a form that is not allowed, or there are two.
    """
    if KEY_HEADER not in headers_of(request.scope):
        return None
    given = request.headers.getlist(HEADER)
    if len(given) > 1 or KEY.fullmatch(given[0]) is None:
        raise BadIdempotencyKey(f"{HEADER} must be 1-255 visible ASCII characters, sent once")
    return given[0]


def is_counted_retry(request: Request) -> bool:
    """Whether the client says that it sends this request once more."""
    if RETRY_HEADER not in headers_of(request.scope):
        return False
    return request.headers.get(RETRY_COUNT, "").strip("0").isdecimal()


def identify(request: Request, wanted: JobRequest) -> RequestIdentity:
    """Return the identity of a request that creates a job.

    Fields with their default values do not count, so the identity is the same in later releases; nor
    does the API key, which may be replaced between two tries.
    """
    return _identity(request, {"create": said(wanted)})


def said(wanted: JobRequest) -> dict[str, Any]:
    """Return what a request says, in the form of JSON: see `identify`."""
    return {
        name: _plain(value)
        for (name, default), value in zip(DEFAULTS.items(), _fields(wanted), strict=True)
        if value != default
    }


def identify_retry(request: Request, job_id: JobId, *, again: bool) -> RequestIdentity:
    """Return the identity of a request that retries a job."""
    return _identity(request, {"retry": str(job_id), "again": again})


async def view_of(
    request: Request, headers: MutableMapping[str, str], accepted: Accepted
) -> JobView:
    """Return the job to be presented, and mark the response if it is that of an earlier request.

    `headers`: those of the response.
    """
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    if accepted.created and not accepted.replayed and not accepted.job.terminal:
        return JobView(accepted.job, ())
    job = accepted.job
    return await jobs.get(runtime(request).db, job.id, tenant_id=job.tenant_id)


def _identity(request: Request, content: Mapping[str, Any]) -> RequestIdentity:
    tenant_id = caller(request).tenant_id
    window = runtime(request).settings.dedupe_window_seconds
    if is_counted_retry(request):
        window = max(window, RETRY_WINDOW)
    canonical = strict.canonical({"tenant": tenant_id, **content})
    return RequestIdentity(
        tenant_id=tenant_id,
        digest=hashlib.sha256(canonical).digest(),
        key=key_of(request),
        window=window,
        ordered=RETRY_HEADER in headers_of(request.scope),
    )


def _plain(value: Any) -> Any:
    """Return the form of a field's value in JSON."""
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case tuple():
            return list(value)
        case dict() | str() | int() | float() | None:
            return value
    return asdict(value)
