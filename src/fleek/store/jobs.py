"""Jobs: accept, find and list them. They change only in `fleek.store.updates`."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    insert,
    or_,
    select,
    tuple_,
)

from fleek.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    FleekError,
    NotFound,
    Overloaded,
    WriteUnknown,
)
from fleek.domain.job import Change, Job, JobId, Status, WorkerId
from fleek.domain.media import Media
from fleek.store import rows
from fleek.store.clock import Leap
from fleek.store.counters import count_accepted
from fleek.store.database import Database, Transaction
from fleek.store.owed import Occurrence, Presenter, insert_owed
from fleek.store.queue import COLLECTING
from fleek.store.tables import JobRow, MediaRow
from fleek.store.updates import INSERT_EVENTS, INSERT_TAGS, JOBS, LOCK_JOBS

INSERT_JOBS: Final = insert(JobRow)
SELECT_JOBS: Final = select(JOBS).where(JobRow.id.in_(bindparam("ids", expanding=True)))
SELECT_VERSIONS: Final = select(JobRow.id, JobRow.version, JobRow.completed_at.is_not(None)).where(
    JobRow.id.in_(bindparam("ids", expanding=True))
)
SELECT_MEDIA: Final = (
    select(MediaRow.__table__)
    .where(MediaRow.job_id.in_(bindparam("job_ids", expanding=True)))
    .order_by(MediaRow.job_id, MediaRow.index)
)
RETRYABLE: Final = frozenset({Status.FAILED.value, Status.CANCELLED.value})
LEAPS: Final = 20  # of the clock that are applied one by one; older ones count together


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its stored files, in the order of their index."""

    job: Job
    media: tuple[Media, ...]


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A job to be accepted, and what presents its events, if that is wanted."""

    job: Job
    present: Presenter | None


async def insert_job(
    db: Database,
    job: Job,
    *,
    present: Presenter | None = None,
    patience: timedelta | None = None,
) -> None:
    """Accept a job: when this returns, it survives whatever happens to the process.

    `present`: for the webhooks that are owed; `patience`: how long it may wait for its turn.

    Raises:
        Overloaded: It is not accepted: its turn did not come in time.
        WriteUnknown: It may or may not have been accepted.
        DatabaseUnavailable: It is not accepted.
        StorageFull: It is not accepted.
    """
    try:
        await db.grouped_write(_insert_all, _Accepted(job, present), patience=patience)
    except Overloaded:
        raise
    except DatabaseUnavailable as error:
        # The connection may have been lost after the commit: what was written counts.
        if not await _is_there(db, job.id, after=error):
            raise


async def _is_there(db: Database, job_id: JobId, *, after: DatabaseUnavailable) -> bool:
    try:
        return await db.grouped_read(_get_all, job_id) is not None
    except DatabaseUnavailable:
        raise WriteUnknown(str(after)) from after


async def _insert_all(tx: Transaction, accepted: Sequence[_Accepted]) -> list[FleekError | None]:
    jobs = [each.job for each in accepted]
    await tx.execute(INSERT_JOBS, [rows.JOB.values(job) for job in jobs])
    lines = [
        rows.event_values(Change(job, "submitted"), seq=job.version, at=job.created_at)
        for job in jobs
    ]
    await tx.execute(INSERT_EVENTS, lines)
    if tags := [values for job in jobs for values in rows.tag_values(job)]:
        await tx.execute(INSERT_TAGS, tags)
    watched = await count_accepted(tx, len(jobs))
    present = next((each.present for each in accepted if each.present is not None), None)
    events = [Occurrence("submitted", job) for job in jobs if watched or job.webhook is not None]
    if events and present is not None:
        await insert_owed(tx, events, present, watched=watched)
    return [None] * len(jobs)


async def insert_retry(
    db: Database,
    job: Job,
    *,
    again: bool,
    present: Presenter | None = None,
    patience: timedelta | None = None,
) -> Job:
    """Accept a job that repeats `job.retry_of`, unless one does so already; returns the one that does.

    Exact however many callers retry the same job at once: they wait for each other at its row.
    `again` accepts it in any case. `present`, `patience`: see `insert_job`.

    Raises:
        NotFound: The job that it repeats has been removed.
        Conflict: It is not failed or cancelled any more: its result is collected again.
        Overloaded: It is not accepted: its turn did not come in time.
        DatabaseUnavailable: It is not known to be accepted; asking again returns it, if it was.
        StorageFull: It is not accepted.
    """
    item = (_Accepted(job, present), again)
    return await db.grouped_write(_insert_retries, item, patience=patience)


async def _insert_retries(
    tx: Transaction, retries: Sequence[tuple[_Accepted, bool]]
) -> list[Job | FleekError]:
    wanted = {item.job.retry_of for item, _ in retries}
    ids = sorted(job_id for job_id in wanted if job_id is not None)
    locked = await tx.execute(LOCK_JOBS, {"ids": rows.padded(ids)})
    status = {row["id"]: row["status"] for row in locked.mappings()}
    new: dict[JobId, Job] = {}  # of this batch, the latest of each job
    accepted: list[_Accepted] = []
    results: list[Job | FleekError] = []
    for item, again in retries:
        job = item.job
        assert job.retry_of is not None
        if (error := _not_retryable(status.get(job.retry_of))) is not None:
            results.append(error)
            continue
        found = None
        if not again:
            found = new.get(job.retry_of) or await _retry_of(tx, job.retry_of)
        if found is None:
            accepted.append(item)
            new[job.retry_of] = job
        results.append(found or job)
    if (
        accepted
    ):  # together: one visit to the counters per transaction, or two could wait in a ring
        await _insert_all(tx, accepted)
    return results


def _not_retryable(status: str | None) -> FleekError | None:
    """Return what is wrong with retrying a job of this status; None is that of one not there."""
    if status is None:
        return NotFound("there is no such job")
    if status not in RETRYABLE:
        return Conflict("only a failed or cancelled job can be retried", code="not_retryable")
    return None


async def retry_of(db: Database, job_id: JobId) -> Job | None:
    """Return the latest retry of a job that lives, or has completed and still has its files."""
    async with db.read() as tx:
        return await _retry_of(tx, job_id)


async def was_retried(db: Database, job_id: JobId, *, since: datetime) -> bool:
    """Whether a retry of a job was accepted since then, whatever has become of it."""
    statement = select(JobRow.id).where(JobRow.retry_of == job_id, JobRow.created_at >= since)
    async with db.read() as tx:
        return await tx.scalar(statement.limit(1)) is not None


async def _retry_of(tx: Transaction, job_id: JobId) -> Job | None:
    statement = (
        select(JOBS)
        .where(
            JobRow.retry_of == job_id,
            JobRow.status.not_in([Status.FAILED.value, Status.CANCELLED.value]),
            JobRow.purged_at.is_(None),
        )
        .order_by(JobRow.id.desc())
        .limit(1)
    )
    row = (await tx.execute(statement)).mappings().first()
    return None if row is None else rows.JOB.read(row)


async def get(db: Database, job_id: JobId, *, tenant_id: str) -> JobView:
    """Return a job with its files.

    Raises:
        NotFound: There is none, or it belongs to another tenant.
    """
    found = await db.grouped_read(_get_all, job_id)
    if found is None or found.job.tenant_id != tenant_id:
        raise NotFound("there is no such job")
    return found


async def _get_all(tx: Transaction, job_ids: Sequence[JobId]) -> list[JobView | FleekError | None]:
    wanted = rows.padded(sorted(set(job_ids)))
    found = await tx.execute(SELECT_JOBS, {"ids": wanted})
    views = {view.job.id: view for view in await read_views(tx, found.mappings().all())}
    return [views.get(job_id) for job_id in job_ids]


async def read_views(tx: Transaction, found: Sequence[Mapping[Any, Any]]) -> list[JobView]:
    """Return the jobs of these rows with their files."""
    jobs = [rows.JOB.read(row) for row in found]
    files: dict[JobId, list[Media]] = defaultdict(list)
    kept = (job for job in jobs if job.status is Status.COMPLETED and job.purged_at is None)
    if ended := [job.id for job in kept]:
        stored = await tx.execute(SELECT_MEDIA, {"job_ids": rows.padded(ended)})
        for row in stored.mappings():
            media = rows.MEDIA.read(row)
            files[media.job_id].append(media)
    return [JobView(job, tuple(files[job.id])) for job in jobs]


class JobVersion(NamedTuple):
    """How far a job has come."""

    version: int
    ended: bool


async def versions(db: Database, job_ids: Sequence[JobId]) -> dict[JobId, JobVersion]:
    """Return how far these jobs have come; those that are not there are left out."""
    async with db.read() as tx:
        found = await tx.execute(SELECT_VERSIONS, {"ids": rows.padded(job_ids)})
        return {JobId(key): JobVersion(version, ended) for key, version, ended in found}


async def held_by(db: Database, worker_id: WorkerId) -> list[JobId]:
    """Return all jobs that this worker holds: no more than it works on at once."""
    statement = select(JobRow.id).where(JobRow.worker_id == worker_id)
    async with db.read() as tx:
        return [JobId(found) for found in await tx.scalars(statement)]


async def overdue(
    db: Database,
    *,
    now: datetime,
    leaps: Sequence[Leap] = (),
    after: tuple[datetime, JobId] | None = None,
    limit: int,
) -> list[tuple[datetime, JobId]]:
    """Return jobs that have not ended by their deadline, longest first, from behind `after`.

    Those in collecting are left out. `leaps`, the latest first: what the clock leapt over while a
    job lived is time that it has more.
    """
    place = (JobRow.deadline, JobRow.id)
    statement = (
        select(*place)
        .where(
            JobRow.completed_at.is_(None),
            JobRow.deadline < now,
            or_(*_lived_through(now, leaps)),
            or_(JobRow.stage.is_(None), JobRow.stage != COLLECTING),
        )
        .order_by(*place)
    )
    if after is not None:
        statement = statement.where(tuple_(*place) > after)
    async with db.read() as tx:
        return [(at, JobId(found)) for at, found in await tx.execute(statement.limit(limit))]


def _lived_through(now: datetime, leaps: Sequence[Leap]) -> Iterator[ColumnElement[bool]]:
    """Give what a deadline must lie behind, for jobs from after each leap, and for all others."""
    for leap in leaps[:LEAPS]:
        yield and_(JobRow.created_at >= leap.at, JobRow.deadline < now)
        now -= leap.skipped
    yield JobRow.deadline < now - sum((leap.skipped for leap in leaps[LEAPS:]), timedelta(0))


async def get_any_tenant(db: Database, job_id: JobId) -> Job:
    """Return a job without its files, whosever it is.

    Raises:
        NotFound: There is none.
    """
    found = await db.grouped_read(_get_all, job_id)
    if found is None:
        raise NotFound("there is no such job")
    return found.job
