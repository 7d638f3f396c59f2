"""What has become of a tenant's jobs lately: counts, durations and bytes."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any, Final

from sqlalchemy import Select, func, select, tuple_

from fleek.domain.job import JobFilter, Status
from fleek.domain.values import dataclass
from fleek.store import listing
from fleek.store.database import Database
from fleek.store.tables import JobRow, MediaRow

MOST: Final = 5000  # ended jobs that are looked at, the latest ones
WAITING: Final = JobFilter(statuses=frozenset({Status.PENDING}), oldest_first=True)
RUNNING: Final = JobFilter(statuses=frozenset({Status.PROCESSING}))


@dataclass(frozen=True, slots=True)
class Durations:
    """Some ended jobs, and how long they took from their first start to their end."""

    jobs: int
    median_seconds: float | None  # None: none of them was started
    p95_seconds: float | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """The jobs of a tenant."""

    pending: int  # up to 10,000 are counted
    processing: int  # likewise
    oldest_pending_at: datetime | None  # when the oldest pending job was created
    since: datetime  # jobs that ended earlier are not looked at
    size_bytes: int  # of the files of the completed ones
    ended: Durations
    by_status: Mapping[str, Durations]
    by_model: Mapping[str, Durations]
    by_provider: Mapping[str, Durations]


Ended = tuple[str, str, str, float | None]
"""Status, model and provider of an ended job, and its seconds."""


async def statistics(
    db: Database, *, tenant_id: str, since: datetime, most: int = MOST
) -> Statistics:
    """Return what has become of the jobs that ended since then: of up to `most`, the latest."""
    latest = _latest(tenant_id, since).limit(most)
    async with db.read() as tx:
        found = (await tx.execute(latest)).all()
    ended = [
        (row.status, row.model, row.provider, _seconds(row.started_at, row.completed_at))
        for row in found
    ]
    oldest = (await listing.page(db, WAITING, tenant_id=tenant_id, limit=1)).views
    return Statistics(
        pending=await listing.count(db, WAITING, tenant_id=tenant_id),
        processing=await listing.count(db, RUNNING, tenant_id=tenant_id),
        oldest_pending_at=oldest[0].job.created_at if oldest else None,
        since=found[-1].completed_at if len(found) == most else since,
        size_bytes=sum(int(row.size_bytes or 0) for row in found),
        ended=_durations([seconds for *_, seconds in ended]),
        by_status=_by(ended, 0),
        by_model=_by(ended, 1),
        by_provider=_by(ended, 2),
    )


async def medians(
    db: Database, *, since: datetime, most: int = MOST
) -> Mapping[tuple[str, str], float]:
    """Return the median seconds of jobs of all tenants that completed since then, by provider and model.

    Only those that needed one attempt, of up to `most`, the latest.
    """
    ended = (JobRow.completed_at, JobRow.id)
    latest = (
        select(JobRow.provider, JobRow.model, JobRow.status, JobRow.attempt, JobRow.deferrals)
        .add_columns(JobRow.started_at, JobRow.completed_at)
        .where(JobRow.completed_at.is_not(None), JobRow.completed_at >= since)
        .order_by(*(column.desc() for column in ended))
        .limit(most)
    )
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    async with db.read() as tx:
        for row in await tx.execute(latest):
            seconds = _seconds(row.started_at, row.completed_at)
            straight = row.status == Status.COMPLETED and row.attempt == 1 and not row.deferrals
            if straight and seconds is not None:
                groups[row.provider, row.model].append(seconds)
    return {place: median(seconds) for place, seconds in groups.items()}


def _latest(tenant_id: str, since: datetime) -> Select[Any]:
    place = (JobRow.tenant_id, JobRow.completed_at)
    files = select(func.sum(MediaRow.size_bytes)).where(MediaRow.job_id == JobRow.id)
    statement: Select[Any] = (
        select(
            JobRow.status,
            JobRow.model,
            JobRow.provider,
            JobRow.started_at,
            JobRow.completed_at,
            files.scalar_subquery().label("size_bytes"),
        )
        .where(
            JobRow.completed_at.is_not(None),
            tuple_(*place) >= [tenant_id, since],  # one range of an index, and says so
            JobRow.tenant_id <= tenant_id,
        )
        .order_by(*(column.desc() for column in place))
    )
    return statement


def _seconds(started_at: datetime | None, completed_at: datetime) -> float | None:
    return None if started_at is None else (completed_at - started_at).total_seconds()


def _by(ended: Sequence[Ended], field: int) -> dict[str, Durations]:
    groups: dict[str, list[float | None]] = defaultdict(list)
    for job in ended:
        groups[str(job[field])].append(job[3])
    return {name: _durations(groups[name]) for name in sorted(groups)}


def _durations(seconds: Sequence[float | None]) -> Durations:
    known = sorted(one for one in seconds if one is not None)
    return Durations(len(seconds), _quantile(known, 0.5), _quantile(known, 0.95))


def _quantile(known: Sequence[float], share: float) -> float | None:
    """Return the value that so large a share does not exceed (nearest rank)."""
    return known[max(math.ceil(share * len(known)) - 1, 0)] if known else None
