"""Batches in responses."""

from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from pydantic import Field

from fleek.domain.batch import BatchView
from fleek.domain.job import Status
from fleek.schemas.base import Schema


class BatchStatus(StrEnum):
    """How far a batch has come."""

    ACCEPTING = "accepting"  # not every member is a job yet
    PROCESSING = "processing"  # not every job has ended
    ENDED = "ended"


class BatchLinks(Schema):
    """Addresses related to a batch."""

    self: str
    jobs: str
    events: str
    outputs: str
    cancel: str
    retry: str


class BatchRead(Schema):
    """A batch."""

    id: UUID
    status: BatchStatus = Field(
        description="`accepting`: not every member is a job yet, because the request goes on, or was "
        "interrupted and has to be repeated with its key; `processing`; `ended`: every job has ended."
    )
    total: int = Field(description="Its members.")
    accepted: int = Field(description="Members that are jobs.")
    counts: dict[Status, int] = Field(
        description="How many members have each status. A job that was retried does not count: its "
        "retry does."
    )
    created_at: datetime
    cancelled_at: datetime | None = Field(
        description="When it was cancelled before every member was a job: the others never will be."
    )
    links: BatchLinks

    @classmethod
    def of(cls, view: BatchView, *, public: str) -> Self:
        """Present a batch. `public`: the base address of the service."""
        batch = view.batch
        here = f"{public}/api/v1/batches/{batch.id}"
        status = BatchStatus.PROCESSING if batch.complete else BatchStatus.ACCEPTING
        return cls(
            id=batch.id,
            status=BatchStatus.ENDED if view.ended else status,
            total=batch.total,
            accepted=batch.accepted,
            counts=dict(view.counts),
            created_at=batch.created_at,
            cancelled_at=batch.cancelled_at,
            links=BatchLinks(
                self=here,
                jobs=f"{public}/api/v1/jobs?batch={batch.id}",
                events=f"{here}/events",
                outputs=f"{here}/outputs.zip",
                cancel=f"{here}/cancel",
                retry=f"{here}/retry",
            ),
        )
