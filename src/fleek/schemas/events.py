"""The events of a job as callers see them: in webhooks and in event streams."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol, Self

from pydantic import AwareDatetime, Field

from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.job import Job
from fleek.domain.media import Media
from fleek.domain.money import usd_or_none
from fleek.domain.values import dataclass
from fleek.domain.webhooks import DISABLED_EVENT
from fleek.schemas.base import Schema
from fleek.schemas.read import Addresses, JobRead


class EventType(StrEnum):
    """The type of an event of a job."""

    CREATED = "job.created"
    STARTED = "job.started"
    PROGRESS = "job.progress"
    RETRYING = "job.retrying"
    COLLECTING = "job.collecting"
    COMPLETED = "job.completed"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    PURGED = "job.purged"
    UPDATED = "job.updated"


class EndpointEventType(StrEnum):
    """The type of an event that an endpoint can choose: of a job, or of another endpoint."""

    CREATED = EventType.CREATED.value
    STARTED = EventType.STARTED.value
    PROGRESS = EventType.PROGRESS.value
    RETRYING = EventType.RETRYING.value
    COLLECTING = EventType.COLLECTING.value
    COMPLETED = EventType.COMPLETED.value
    FAILED = EventType.FAILED.value
    CANCELLED = EventType.CANCELLED.value
    PURGED = EventType.PURGED.value
    UPDATED = EventType.UPDATED.value
    ENDPOINT_DISABLED = DISABLED_EVENT


PUBLIC: Final[Mapping[str, EventType]] = {
    "submitted": EventType.CREATED,
    "starting": EventType.STARTED,
    "progress": EventType.PROGRESS,
    "retrying": EventType.RETRYING,
    "deferred": EventType.RETRYING,
    "rerouted": EventType.RETRYING,
    "postponed": EventType.RETRYING,
    "out_of_budget": EventType.RETRYING,
    "predicted": EventType.COLLECTING,
    "recollecting": EventType.COLLECTING,
    "completed": EventType.COMPLETED,
    "failed": EventType.FAILED,
    "cancelled": EventType.CANCELLED,
    "purged": EventType.PURGED,
    "updated": EventType.UPDATED,
}
"""By the type of a line of a job's history; other lines are internal."""

ENDS: Final = (EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED)
"""The events with which a job ends."""


class WebhookEvent(Schema):
    """The body of a webhook about a job."""

    type: EventType
    timestamp: AwareDatetime = Field(description="When the event happened.")
    data: JobRead = Field(description="The job as it was then.")


class JobEvent(JobRead):
    """The data of an event of a job: the job, and when it happened."""

    seq: int = Field(description="Number of the event, rising; not all numbers are events.")
    at: AwareDatetime = Field(description="When the event happened.")


class HistoryEvent(Schema):
    """An event of a job, without the job."""

    seq: int = Field(description="Number of the event, rising; not all numbers are events.")
    type: EventType
    at: AwareDatetime = Field(description="When the event happened.")
    attempt: int | None = Field(
        default=None, description="Number of the attempt, if it is of one."
    )
    progress: float | None = Field(default=None, description="0.0-1.0.")
    code: str | None = Field(default=None, description="Code of the error, if it is about one.")
    reason: str | None = Field(default=None, description="The error in words.")
    next_at: AwareDatetime | None = Field(
        default=None, description="Earliest time of the next try, if there is one."
    )
    provider: str | None = Field(
        default=None, description="Where the job goes on, if it leaves its route."
    )
    model_name: str | None = Field(default=None, description="The model there.")

    @classmethod
    def from_line(cls, seq: int, line: str, at: datetime, data: Mapping[str, Any]) -> Self:
        """Present a line of a job's history that is a public event."""
        return cls(
            seq=seq,
            type=PUBLIC[line],
            at=at,
            attempt=data.get("attempt"),
            progress=data.get("progress"),
            code=data.get("code"),
            reason=data.get("message"),
            next_at=data.get("run_at"),
            provider=data.get("provider"),
            model_name=data.get("model"),
        )


class AttemptRead(Schema):
    """One attempt of a job."""

    n: int = Field(description="Number, from 1.")
    provider: str
    model_name: str
    submitted_at: AwareDatetime
    prediction_id: str | None
    verdict: Verdict | None = Field(
        description="The final result; null: not known yet. `not_bought`: no prediction was "
        "created, and nothing was paid for. `lost`: it stayed unknown."
    )
    error_code: str | None
    error_message: str | None
    estimate: str | None = Field(
        default=None, description="What it was expected to cost, in US dollars; null: unknown."
    )
    cost: str | None = Field(
        default=None,
        description="What it has cost, in US dollars, once there is a verdict; null: unknown.",
    )

    @classmethod
    def from_attempt(cls, attempt: Attempt) -> Self:
        """Present an attempt."""
        return cls(
            n=attempt.number,
            provider=attempt.provider,
            model_name=attempt.model,
            submitted_at=attempt.submitted_at,
            prediction_id=attempt.prediction_id,
            verdict=attempt.verdict,
            error_code=attempt.error and attempt.error.code,
            error_message=attempt.error and attempt.error.message,
            estimate=usd_or_none(attempt.estimate),
            cost=usd_or_none(attempt.cost),
        )


class JobHistory(Schema):
    """What happened to a job so far."""

    events: list[HistoryEvent]
    attempts: list[AttemptRead]


class LogText(Schema):
    """The data of an event `log`: what has come to the logs of a job."""

    attempt: int = Field(description="Number of the attempt, from 1.")
    text: str = Field(description="As the model has printed it, line breaks included.")


class Hello(Schema):
    """The data of the first event of a stream."""

    version: str = Field(description="Version of the service.")
    server_time: AwareDatetime


class WebhookForm(Protocol):
    """The webhooks of another service."""

    prefix: str | None
    """Of the headers, if the installation's private key signs; else the tenant's secret does."""

    def body(self, job: Job, media: Sequence[Media], addresses: Addresses) -> bytes:
        """Return the body of a webhook about a job as it is after an event."""
        ...


def _unknown(name: str) -> WebhookForm:
    raise KeyError(name)


@dataclass(frozen=True, slots=True)
class EventPresenter:
    """Presents the lines of a job's history as public events."""

    addresses: Addresses
    forms: Callable[[str], WebhookForm] = _unknown  # by name

    def type_of(self, line: str) -> str | None:
        """Return the type of the event that a line of this type is; None: it is internal."""
        return PUBLIC.get(line)

    def body(
        self, line: str, job: Job, media: Sequence[Media], *, form: str | None = None
    ) -> bytes:
        """Return the body of a webhook about a line: the job after it, with its stored files.

        `form`: that of another service; None: our own.
        """
        if form is not None:
            return self.forms(form).body(job, media, self.addresses)
        event = WebhookEvent(
            type=PUBLIC[line],
            timestamp=job.updated_at,
            data=JobRead.from_job(job, media, self.addresses),
        )
        return event.model_dump_json().encode()
