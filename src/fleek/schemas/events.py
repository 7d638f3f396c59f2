"""The events of a job as callers see them: in webhooks and in event streams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime, BaseModel, Field

from fleek.domain.job import Job
from fleek.domain.media import Media
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


PUBLIC: Final[Mapping[str, EventType]] = {
    "submitted": EventType.CREATED,
    "starting": EventType.STARTED,
    "progress": EventType.PROGRESS,
    "retrying": EventType.RETRYING,
    "deferred": EventType.RETRYING,
    "postponed": EventType.RETRYING,
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


class WebhookEvent(BaseModel):
    """The body of a webhook about a job."""

    type: EventType
    timestamp: AwareDatetime = Field(description="When the event happened.")
    data: JobRead = Field(description="The job as it was then.")


@dataclass(frozen=True, slots=True)
class EventPresenter:
    """Presents the lines of a job's history as public events."""

    addresses: Addresses

    def type_of(self, line: str) -> str | None:
        """Return the type of the event that a line of this type is; None: it is internal."""
        return PUBLIC.get(line)

    def body(self, line: str, job: Job, media: Sequence[Media]) -> bytes:
        """Return the body of a webhook about a line: the job after it, with its stored files."""
        event = WebhookEvent(
            type=PUBLIC[line],
            timestamp=job.updated_at,
            data=JobRead.from_job(job, media, self.addresses),
        )
        return event.model_dump_json().encode()
