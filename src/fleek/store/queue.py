"""The queue: ranges of the index of pending jobs, one per provider and priority.

Each provider has its own queue, so that a provider that is paused does not block the others.

The statements are made once: to make and to hash such large ones takes longer than to run them.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Select,
    and_,
    bindparam,
    func,
    literal_column,
    select,
    union_all,
)

from fleek.domain.job import JobId, ModelName
from fleek.store.database import Database, Transaction
from fleek.store.tables import JobRow

PENDING: Final[ColumnElement[str]] = literal_column("'pending'")
"""Written out, not bound: only so do the planners see that a partial index answers."""

COLLECTING: Final[ColumnElement[str]] = literal_column("'collecting'")  # written out, too

PROVIDER: Final[BindParameter[str]] = bindparam("provider")
PRIORITIES: Final = range(9, -1, -1)
POSTPONED_CAP: Final = 1000  # postponed jobs beyond are not counted
LASTING: Final = 2  # failed tries to collect; the first may be due to a file that is too fresh


@dataclass(frozen=True, slots=True)
class Due:
    """A job that may be started now."""

    job_id: JobId
    tenant_id: str
    provider: str
    model: ModelName
    priority: int
    run_at: datetime


def _pending(provider: Any, priority: int, *columns: Any, where: Any, limit: Any) -> Select[Any]:
    """Return a provider's first pending jobs of one priority in the order of their turn."""
    queue = (JobRow.status == PENDING, JobRow.provider == provider, JobRow.priority == priority)
    first = select(*columns).where(*queue, where).order_by(JobRow.run_at, JobRow.id).limit(limit)
    return select(first.subquery())


def _by_priority(*columns: Any, where: Any, limit: Any) -> CompoundSelect[Any]:
    """Return one range of the index of what is due per priority: the rest costs nothing."""
    return union_all(
        *(
            _pending(PROVIDER, priority, *columns, where=where, limit=limit)
            for priority in PRIORITIES
        )
    )


_DUE: Final[ColumnElement[bool]] = JobRow.run_at <= bindparam("now")
_DISPATCHED: Final = (
    JobRow.id.label("job_id"),
    JobRow.tenant_id,
    JobRow.provider,
    JobRow.model,
    JobRow.priority,
    JobRow.run_at,
)

DUE: Final = _by_priority(*_DISPATCHED, where=_DUE, limit=bindparam("most"))
DUE_BUT: Final = _by_priority(
    *_DISPATCHED,
    where=and_(_DUE, JobRow.model.not_in(bindparam("without", expanding=True))),
    limit=bindparam("most"),
)
FIRST_DUE: Final = _by_priority(JobRow.run_at, where=_DUE, limit=1)
FIRST_LATER: Final = _by_priority(JobRow.run_at, where=JobRow.run_at > bindparam("now"), limit=1)


NEXT_PROVIDER: Final = (
    select(JobRow.provider)
    .where(JobRow.status == PENDING, JobRow.provider > bindparam("after"))
    .order_by(JobRow.provider)
    .limit(1)
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
    return sorted(jobs, key=lambda job: (-job.priority, job.run_at, job.job_id))


async def uncollected(
    db: Database, *, now: datetime, limit: int, postponed: bool
) -> dict[JobId, datetime]:
    """Return jobs that wait to be collected and are due, with their time, longest due first.

    Either those that were `postponed`, or those that are tried for the first time.
    """
    statement = (
        select(JobRow.id, JobRow.run_at)
        .where(
            JobRow.stage == COLLECTING,
            JobRow.worker_id.is_(None),
            JobRow.run_at <= now,
            JobRow.collects > 0 if postponed else JobRow.collects == 0,
        )
        .order_by(JobRow.run_at)
        .limit(limit)
    )
    async with db.read() as tx:
        return {JobId(found): run_at for found, run_at in await tx.execute(statement)}


async def postponed(db: Database) -> Mapping[str, int]:
    """Return how many paid results wait to be stored after two failed tries, by the last reason.

    Counted up to 1,000.
    """
    waiting = (
        select(JobRow.error_code)
        .where(
            JobRow.stage == COLLECTING,
            JobRow.worker_id.is_(None),
            JobRow.collects >= LASTING,
            JobRow.error_code.is_not(None),
        )
        .limit(POSTPONED_CAP)
        .subquery()
    )
    counted = select(waiting.c.error_code, func.count()).group_by(waiting.c.error_code)
    async with db.read() as tx:
        return {str(code): int(number) for code, number in await tx.execute(counted)}


async def next_run(db: Database, *, providers: Iterable[str], now: datetime) -> datetime | None:
    """Return when the next pending job of these providers becomes due, or None."""
    async with db.read() as tx:
        return await first_run(tx, FIRST_LATER, providers, now=now)


async def first_run(
    tx: Transaction, statement: Any, providers: Iterable[str], *, now: datetime
) -> datetime | None:
    """Return the earliest time that `FIRST_DUE` or `FIRST_LATER` finds, or None."""
    found: list[datetime] = []
    for provider in providers:
        found.extend(await tx.scalars(statement, {"provider": provider, "now": now}))
    return min(found, default=None)


async def from_future(db: Database, *, now: datetime, limit: int) -> list[JobId]:
    """Return jobs that wait, and were written later than now.

    Those that wait for a time that their caller chose are left out. Looks at all that waits.
    """
    waited_before = (JobRow.retries > 0) | (JobRow.deferrals > 0)
    waiting = (
        (JobRow.status == PENDING) & (waited_before | (JobRow.run_at <= JobRow.created_at)),
        (JobRow.stage == COLLECTING) & JobRow.worker_id.is_(None),
    )
    later = (JobRow.run_at > now, JobRow.updated_at > now)
    statement = union_all(*(select(JobRow.id).where(kind, *later) for kind in waiting))
    async with db.read() as tx:
        return [JobId(job_id) for job_id in await tx.scalars(statement.limit(limit))]
