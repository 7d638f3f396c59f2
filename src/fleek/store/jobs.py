"""Jobs: accept, find, list and count them. They change only in `fleek.store.steps`."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    func,
    insert,
    literal_column,
    or_,
    select,
    tuple_,
)

from fleek.domain.errors import DatabaseUnavailable, FleekError, NotFound
from fleek.domain.job import Change, Job, JobId, ModelName, Status, WorkerId
from fleek.domain.media import Media
from fleek.store import rows
from fleek.store.database import Database, Transaction
from fleek.store.queue import DUE, DUE_BUT, FIRST_DUE, FIRST_LATER, NEXT_PROVIDER, ahead_of
from fleek.store.steps import INSERT_EVENTS, JOBS, add_tally
from fleek.store.tables import JobRow, MediaRow, TallyRow

INSERT_JOBS: Final = insert(JobRow)
COLLECTING: Final[ColumnElement[str]] = literal_column("'collecting'")  # as `queue.PENDING`
FIRST: Final = UUID(int=0)  # no job has these ids
LAST: Final = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its stored files, in the order of their index."""

    job: Job
    media: tuple[Media, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """A job that may be started now."""

    job_id: JobId
    tenant_id: str
    provider: str
    model: ModelName
    priority: int
    run_at: datetime


@dataclass(frozen=True, slots=True)
class Tally:
    """How many jobs there are."""

    by_status: Mapping[Status, int]
    oldest_pending_seconds: float | None  # how long the longest-waiting due job waits

    @property
    def total(self) -> int:
        """All jobs ever accepted."""
        return sum(self.by_status.values())

    @property
    def queue_depth(self) -> int:
        """Jobs that wait to be started."""
        return self.by_status[Status.PENDING]

    @property
    def in_flight(self) -> int:
        """Jobs that are being started, waited for or collected."""
        return self.by_status[Status.PROCESSING]


async def insert_job(db: Database, job: Job) -> None:
    """Accept a job: when this returns, it survives whatever happens to the process.

    Raises:
        DatabaseUnavailable: It is not accepted.
        StorageFull: It is not accepted.
    """
    try:
        await db.grouped_write(_insert_all, job)
    except DatabaseUnavailable:
        # The connection may have been lost after the commit: what was written counts.
        if await db.grouped_read(_get_all, job.id) is None:
            raise


async def _insert_all(tx: Transaction, jobs: Sequence[Job]) -> list[FleekError | None]:
    await tx.execute(INSERT_JOBS, [rows.job_values(job) for job in jobs])
    lines = [
        rows.event_values(Change(job, "submitted"), seq=job.version, at=job.created_at)
        for job in jobs
    ]
    await tx.execute(INSERT_EVENTS, lines)
    await add_tally(tx, {Status.PENDING: len(jobs)})
    return [None] * len(jobs)


async def get(db: Database, job_id: JobId, *, tenant_id: str) -> JobView:
    """Return a job with its files.

    Raises:
        NotFound: There is none, or it belongs to somebody else.
    """
    found = await db.grouped_read(_get_all, job_id)
    if found is None or found.job.tenant_id != tenant_id:
        raise NotFound("there is no such job")
    return found


async def _get_all(tx: Transaction, job_ids: Sequence[JobId]) -> list[JobView | FleekError | None]:
    wanted = rows.padded(sorted(set(job_ids)))
    found = await tx.execute(select(JOBS).where(JobRow.id.in_(wanted)))
    views = {view.job.id: view for view in await _views(tx, found.mappings().all())}
    return [views.get(job_id) for job_id in job_ids]


async def _views(tx: Transaction, found: Sequence[Mapping[Any, Any]]) -> list[JobView]:
    jobs = [rows.job_from(row) for row in found]
    files: dict[JobId, list[Media]] = defaultdict(list)
    if ended := [job.id for job in jobs if job.status is Status.COMPLETED]:
        statement = (
            select(MediaRow.__table__)
            .where(MediaRow.job_id.in_(rows.padded(ended)))
            .order_by(MediaRow.job_id, MediaRow.index)
        )
        for row in (await tx.execute(statement)).mappings():
            media = rows.media_from(row)
            files[media.job_id].append(media)
    return [JobView(job, tuple(files[job.id])) for job in jobs]


async def page(
    db: Database,
    *,
    tenant_id: str,
    status: Status | None = None,
    limit: int,
    offset: int = 0,
    after: JobId | None = None,
) -> list[JobView]:
    """Return up to `limit` jobs, newest first, from the one behind `after` on."""
    statement = listed(tenant_id=tenant_id, status=status, after=after)
    async with db.read() as tx:
        found = await tx.execute(statement.limit(limit).offset(offset))
        return await _views(tx, found.mappings().all())


def listed(
    *, tenant_id: str, status: Status | None = None, after: JobId | None = None
) -> Select[Any]:
    """Return the statement of a list; ids of version 7 sort by time.

    It is one range of an index, and says so: asked for equal tenants in the order of ids,
    PostgreSQL may walk through all newer jobs of others.
    """
    columns: list[Any] = [JobRow.tenant_id, JobRow.id]
    first: list[Any] = [tenant_id, FIRST]
    last: list[Any] = [tenant_id, after or LAST]
    if status is not None:
        columns.insert(1, JobRow.status)
        first.insert(1, status.value)
        last.insert(1, status.value)
    place = tuple_(*columns)
    return (
        select(JOBS)
        .where(place > first, place < last)
        .order_by(*(column.desc() for column in columns))
    )


async def due(
    db: Database,
    *,
    providers: Iterable[str],
    now: datetime,
    limit: int,
    without: Collection[tuple[str, ModelName]] = (),
) -> list[Due]:
    """Return pending jobs of these providers whose time has come, best first.

    At most `limit` per provider and priority. `without`: models whose jobs are left out; these
    are passed over one by one, so there should be few, and seldom.
    """
    jobs: list[Due] = []
    async with db.read() as tx:
        for provider in providers:
            values: dict[str, Any] = {"provider": provider, "now": now, "most": limit}
            models = [model for name, model in without if name == provider]
            if models:
                values["without"] = models
            found = await tx.execute(DUE_BUT if models else DUE, values)
            jobs.extend(Due(*row) for row in found)
    return sorted(jobs, key=lambda one: (-one.priority, one.run_at, one.job_id))


async def uncollected(db: Database, *, now: datetime, limit: int) -> dict[JobId, datetime]:
    """Return jobs whose outputs nobody collects, with the time that has come, longest first."""
    statement = (
        select(JobRow.id, JobRow.run_at)
        .where(JobRow.stage == COLLECTING, JobRow.worker_id.is_(None), JobRow.run_at <= now)
        .order_by(JobRow.run_at)
        .limit(limit)
    )
    async with db.read() as tx:
        return {JobId(found): run_at for found, run_at in await tx.execute(statement)}


async def held(db: Database, worker_id: WorkerId, *, limit: int) -> list[JobId]:
    """Return jobs that this worker holds."""
    statement = select(JobRow.id).where(JobRow.worker_id == worker_id).limit(limit)
    async with db.read() as tx:
        return [JobId(found) for found in await tx.scalars(statement)]


async def overdue(db: Database, *, now: datetime, limit: int) -> list[JobId]:
    """Return jobs that have not ended by their deadline, those in collecting left out."""
    statement = (
        select(JobRow.id)
        .where(
            JobRow.completed_at.is_(None),
            JobRow.deadline < now,
            or_(JobRow.stage.is_(None), JobRow.stage != COLLECTING),
        )
        .order_by(JobRow.deadline)
        .limit(limit)
    )
    async with db.read() as tx:
        return [JobId(found) for found in await tx.scalars(statement)]


async def next_run(db: Database, *, providers: Iterable[str], now: datetime) -> datetime | None:
    """Return when the next pending job of these providers becomes due, or None."""
    async with db.read() as tx:
        return await _first(tx, FIRST_LATER, providers, now=now)


async def _first(
    tx: Transaction, statement: Any, providers: Iterable[str], *, now: datetime
) -> datetime | None:
    first: list[datetime] = []
    for provider in providers:
        first.extend(await tx.scalars(statement, {"provider": provider, "now": now}))
    return min(first, default=None)


async def queue_position(db: Database, job: Job, *, now: datetime) -> int | None:
    """Return how many due jobs of its provider go first; None if it does not wait.

    Counted up to 1,000.
    """
    if job.status is not Status.PENDING:
        return None
    counted = ahead_of(job, now=now).subquery()
    async with db.read() as tx:
        return await tx.scalar(select(func.count()).select_from(counted))


async def tally(db: Database, *, now: datetime) -> Tally:
    """Return the number of jobs by status, from counters, not from a scan."""
    sums = select(TallyRow.status, func.sum(TallyRow.jobs)).group_by(TallyRow.status)
    async with db.read() as tx:
        found = {Status(status): int(jobs) for status, jobs in await tx.execute(sums)}
        since = await _first(tx, FIRST_DUE, await _pending_providers(tx), now=now)
    return Tally(
        by_status={status: found.get(status, 0) for status in Status},
        oldest_pending_seconds=None if since is None else (now - since).total_seconds(),
    )


async def _pending_providers(tx: Transaction) -> list[str]:
    """Return the providers that jobs wait for: one step in the index for each."""
    found: list[str] = []
    last = ""
    while True:
        name = await tx.scalar(NEXT_PROVIDER, {"after": last})
        if name is None:
            return found
        found.append(name)
        last = name


async def peek(db: Database, job_id: JobId) -> Job:
    """Return a job without its files, whosever it is.

    Raises:
        NotFound: There is none.
    """
    found = await db.grouped_read(_get_all, job_id)
    if found is None:
        raise NotFound("there is no such job")
    return found.job
