"""A batch: many requests that were accepted together."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from fleek.domain.job import BatchId, Status
from fleek.domain.values import dataclass

MOST_MEMBERS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests of one call, each of which is a job once it is accepted."""

    id: BatchId
    tenant_id: str
    key_id: str | None = None  # the API key of the caller
    total: int  # its members
    accepted: int = 0  # members that are jobs, in their order
    created_at: datetime
    cancelled_at: datetime | None = None  # no further member is accepted

    @property
    def complete(self) -> bool:
        """Whether every member is a job that ever will be."""
        return self.cancelled_at is not None or self.accepted == self.total


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch, and how many of its members have each status."""

    batch: Batch
    counts: Mapping[Status, int]

    @property
    def ended(self) -> bool:
        """Whether every member has ended, and no other will be accepted."""
        open_ones = self.counts[Status.PENDING] + self.counts[Status.PROCESSING]
        return self.batch.complete and not open_ones
