"""Queries of retention: expired jobs, unfinished purges, owners of files, removal of rows."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    delete,
    false,
    func,
    literal_column,
    select,
    text,
    tuple_,
)

from fleek.domain.job import TERMINAL, Job, JobId, Status
from fleek.domain.media import Part
from fleek.domain.values import dataclass
from fleek.store import rows
from fleek.store.counters import add_counts
from fleek.store.database import Database
from fleek.store.tables import (
    PURGING,
    AttemptRow,
    Base,
    DeliveryRow,
    IdempotencyKeyRow,
    JobRow,
    MediaRow,
)
from fleek.store.updates import JOBS

COMPLETED: Final[ColumnElement[str]] = literal_column("'completed'")  # as `queue.PENDING`
ENDS: Final = sorted(status.value for status in TERMINAL)
OF_JOBS: Final = [  # tables that refer to jobs, in the order in which their rows can be removed
    table
    for table in reversed(Base.metadata.sorted_tables)
    if any(key.column.table is JOBS for key in table.foreign_keys)
]

Places = Select[datetime | None, UUID]
Cursor = tuple[datetime, JobId]
"""Position in a list of jobs: when a job ended, or was purged, and its id."""


@dataclass(frozen=True, slots=True)
class PurgeEstimate:
    """How much there is to purge."""

    jobs: int
    files: int
    size_bytes: int  # of the files; metadata documents are not counted


@dataclass(frozen=True, slots=True)
class FileOwner:
    """A job, as far as it stands for files in storage."""

    job: Job
    keys: Collection[str]  # of its stored files
    owing: bool  # whether an attempt of it has no verdict yet


async def purging(db: Database, *, after: Cursor | None, limit: int) -> list[Job]:
    """Return jobs whose purge may not be finished, oldest first."""
    position = (JobRow.updated_at, JobRow.id)
    statement = select(JOBS).where(text(PURGING)).order_by(*position).limit(limit)
    if after is not None:
        statement = statement.where(tuple_(*position) > after)
    async with db.read() as tx:
        return [rows.JOB.read(row) for row in (await tx.execute(statement)).mappings()]


async def expired(
    db: Database, part: Part, *, before: datetime, after: Cursor | None, limit: int
) -> list[Cursor]:
    """Return jobs that completed before then and still have this part, longest first."""
    purged_at = JobRow.purged_at if part is Part.MEDIA else JobRow.metadata_purged_at
    statement = _ended(before=before, after=after).where(
        JobRow.status == COMPLETED, purged_at.is_(None)
    )
    return await _places(db, statement.limit(limit))


async def ended(
    db: Database, *, before: datetime, after: Cursor | None, limit: int
) -> list[Cursor]:
    """Return jobs that ended before then, whichever way, longest first."""
    return await _places(db, _ended(before=before, after=after).limit(limit))


async def kept(
    db: Database, *, before: datetime, status: Status | None, after: Cursor | None, limit: int
) -> list[Cursor]:
    """Return jobs that ended so (None: in any way) before then and have not been purged whole."""
    statement = _ended(before=before, after=after).where(*_not_purged(status))
    return await _places(db, statement.limit(limit))


async def weigh(db: Database, *, before: datetime, status: Status | None) -> PurgeEstimate:
    """Return how much `kept` would find; looks at all of it."""
    jobs = _ended(before=before, after=None).where(*_not_purged(status)).order_by(None).subquery()
    files = select(func.count(), func.coalesce(func.sum(MediaRow.size_bytes), 0)).where(
        MediaRow.job_id.in_(select(jobs.c.id))
    )
    async with db.read() as tx:
        number = await tx.scalar(select(func.count()).select_from(jobs))
        found, size = (await tx.execute(files)).one()
    return PurgeEstimate(int(number or 0), int(found), int(size))


def _ended(*, before: datetime, after: Cursor | None) -> Places:
    statement: Places = (
        select(JobRow.completed_at, JobRow.id)
        .where(JobRow.completed_at < before)
        .order_by(JobRow.completed_at, JobRow.id)
    )
    if after is None:
        return statement
    return statement.where(tuple_(JobRow.completed_at, JobRow.id) > after)


def _not_purged(status: Status | None) -> list[Any]:
    conditions: list[Any] = [JobRow.purged_at.is_(None) | JobRow.metadata_purged_at.is_(None)]
    return conditions if status is None else [*conditions, JobRow.status == status.value]


async def _places(db: Database, statement: Places) -> list[Cursor]:
    async with db.read() as tx:
        return [(at, JobId(job_id)) for at, job_id in await tx.execute(statement) if at]


async def owing(db: Database, job_ids: Sequence[JobId]) -> set[JobId]:
    """Return which of these jobs have an attempt without a verdict: money may be on its way."""
    if not job_ids:
        return set()
    statement = select(AttemptRow.job_id).where(
        AttemptRow.job_id.in_(rows.padded(job_ids)), AttemptRow.verdict.is_(None)
    )
    async with db.read() as tx:
        return {JobId(found) for found in await tx.scalars(statement)}


async def owners(db: Database, job_ids: Sequence[JobId]) -> Mapping[JobId, FileOwner]:
    """Return which files these jobs stand for; those that are not there are left out.

    `job_ids` must not be empty.
    """
    wanted = rows.padded(job_ids)
    files = select(MediaRow.job_id, MediaRow.key).where(MediaRow.job_id.in_(wanted))
    keys: dict[JobId, set[str]] = defaultdict(set)
    async with db.read() as tx:
        found = await tx.execute(select(JOBS).where(JobRow.id.in_(wanted)))
        jobs = [rows.JOB.read(row) for row in found.mappings()]
        for job_id, key in await tx.execute(files):  # after the jobs: what completes has its files
            keys[JobId(job_id)].add(key)
    open_ones = await owing(db, job_ids)
    return {job.id: FileOwner(job, keys[job.id], job.id in open_ones) for job in jobs}


async def remove(db: Database, job_ids: Sequence[JobId]) -> int:
    """Remove jobs with their attempts, events and files' rows; returns how many.

    A job is left if its purge is not finished, if an attempt of it has no verdict, or if it is
    still the answer to an idempotency key.
    """
    wanted = rows.padded(sorted(job_ids))
    removable = (
        select(JobRow.id, JobRow.status)
        .where(
            JobRow.id.in_(wanted),
            JobRow.status.in_(ENDS),
            JobRow.purged_at.is_not(None),
            JobRow.metadata_purged_at.is_not(None),
            JobRow.purging == false(),
            ~select(AttemptRow.id)
            .where(AttemptRow.job_id == JobRow.id, AttemptRow.verdict.is_(None))
            .exists(),
            ~select(IdempotencyKeyRow.job_id)
            .where(IdempotencyKeyRow.job_id == JobRow.id)
            .exists(),
        )
        .order_by(JobRow.id)
        .with_for_update()
    )
    async with db.write() as tx:
        found = {JobId(job_id): Status(status) for job_id, status in await tx.execute(removable)}
        if found:
            removed = rows.padded(sorted(found))
            await tx.execute(
                delete(DeliveryRow).where(
                    DeliveryRow.job_id.in_(removed), DeliveryRow.ended_at.is_not(None)
                )
            )
            for table in OF_JOBS:
                await tx.execute(delete(table).where(table.c.job_id.in_(removed)))
            await tx.execute(delete(JobRow).where(JobRow.id.in_(removed)))
            counted = Counter(found.values())
            await add_counts(tx, {status: -number for status, number in counted.items()})
    return len(found)
