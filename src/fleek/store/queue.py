"""The queue: ranges of the index of pending jobs, one per provider and priority.

Each provider has its own queue, so that a provider that is paused does not block the others.

The statements are made once: to make and to hash such large ones takes longer than to run them.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
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
    text,
    tuple_,
    union_all,
)

from fleek.domain.job import JobId, ModelName
from fleek.domain.values import dataclass
from fleek.store.database import Database, Reads, Transaction
from fleek.store.prepared import Query
from fleek.store.rows import padded
from fleek.store.tables import ROUTED, JobRow

PENDING: Final[ColumnElement[str]] = literal_column("'pending'")
"""Written out, not bound: only so do the planners see that a partial index answers."""

COLLECTING: Final[ColumnElement[str]] = literal_column("'collecting'")  # written out, too

PROVIDER: Final[BindParameter[str]] = bindparam("provider")
PRIORITIES: Final = range(9, -1, -1)
POSTPONED_CAP: Final = 1000  # postponed jobs beyond are not counted
SEVERAL: Final = 2
TENANTS_PER_TURN: Final = 50  # whose jobs are looked for one by one
PER_TENANT: Final = 64  # jobs of one that are looked at then
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


def _pending(priority: int, *columns: Any, where: Any, limit: Any) -> Select[Any]:
    """Return a provider's first pending jobs of one priority in the order of their turn."""
    queue = (JobRow.status == PENDING, JobRow.provider == PROVIDER, JobRow.priority == priority)
    first = select(*columns).where(*queue, where).order_by(JobRow.run_at, JobRow.id).limit(limit)
    return select(first.subquery())


def _by_priority(*columns: Any, where: Any, limit: Any) -> CompoundSelect[Any]:
    """Return one range of the index of what is due per priority: the rest costs nothing."""
    return union_all(
        *(_pending(priority, *columns, where=where, limit=limit) for priority in PRIORITIES)
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

_ALLOWED: Final = JobRow.model.not_in(bindparam("without", expanding=True))
_TENANT: Final = JobRow.tenant_id == bindparam("tenant_id")
_MOST: Final[BindParameter[int]] = bindparam("most")


def _due_jobs(where: Any) -> Query[Any]:
    return Query(_by_priority(*_DISPATCHED, where=where, limit=_MOST))


DUE: Final = _due_jobs(_DUE)
DUE_BUT: Final = _due_jobs(and_(_DUE, _ALLOWED))
TENANT_DUE: Final = _due_jobs(and_(_TENANT, _DUE))
TENANT_DUE_BUT: Final = _due_jobs(and_(_TENANT, _DUE, _ALLOWED))
STILL_DUE: Final = Query[Any](
    select(*_DISPATCHED).where(
        JobRow.id.in_(bindparam("ids", expanding=True)), JobRow.status == PENDING, _DUE
    )
)
TENANTS: Final = text(  # in the whole order of its index: planners find that one then
    """WITH RECURSIVE tenants(id) AS (
      SELECT (SELECT tenant_id FROM jobs WHERE status = 'pending'
              ORDER BY tenant_id, provider, priority, run_at, id LIMIT 1)
      UNION ALL
      SELECT (SELECT j.tenant_id FROM jobs j WHERE j.status = 'pending' AND j.tenant_id > tenants.id
              ORDER BY j.tenant_id, j.provider, j.priority, j.run_at, j.id LIMIT 1)
      FROM tenants WHERE tenants.id IS NOT NULL)
    SELECT id FROM tenants WHERE id IS NOT NULL LIMIT 1000"""
)
FIRST_DUE: Final = Query[Any](_by_priority(JobRow.run_at, where=_DUE, limit=1))
FIRST_LATER: Final = Query[Any](
    _by_priority(JobRow.run_at, where=JobRow.run_at > bindparam("now"), limit=1)
)


def _uncollected(which: ColumnElement[bool]) -> Query[Any]:
    """Return jobs that wait to be collected and are due, longest due first."""
    waits = (JobRow.stage == COLLECTING, JobRow.worker_id.is_(None), _DUE)
    found = select(JobRow.id, JobRow.run_at).where(*waits, which)
    return Query(found.order_by(JobRow.run_at).limit(_MOST))


UNCOLLECTED: Final = _uncollected(JobRow.collects == 0)
POSTPONED: Final = _uncollected(JobRow.collects > 0)

NEXT_PROVIDER: Final = Query[Any](
    select(JobRow.provider)
    .where(JobRow.status == PENDING, JobRow.provider > bindparam("after"))
    .order_by(JobRow.provider)
    .limit(1)
)

NEXT_ROUTED: Final = Query[Any](
    select(JobRow.provider)
    .where(text(ROUTED), JobRow.provider > bindparam("after"))
    .order_by(JobRow.provider)
    .limit(1)
)


async def due(
    db: Reads,
    *,
    providers: Iterable[str],
    now: datetime,
    limit: int,
    without: Collection[tuple[str, ModelName]] = (),
    dispatched: Collection[JobId] = (),
    busy: Collection[str] = (),
) -> list[Due]:
    """Return pending jobs of these providers whose time has come, best first.

    Within a priority tenants take turns. At most `limit` per provider and priority, and if there
    may be more, some of each tenant. Those that were `dispatched` are among them while they wait.
    `without`: models whose jobs are left out; these are passed over one by one, so there should be
    few, and seldom. `busy`: tenants whose jobs may not start now, not looked for one by one.
    """
    jobs: dict[JobId, Due] = {}
    names = list(providers)
    async with db.read() as tx:
        for provider in names:
            values: dict[str, Any] = {"provider": provider, "now": now, "most": limit}
            models = [model for name, model in without if name == provider]
            if models:
                values["without"] = padded(models)
            statement = DUE_BUT if models else DUE
            found = [Due(*row) for row in await statement.rows(tx, **values)]
            if max(Counter(job.priority for job in found).values(), default=0) >= limit:
                statement = TENANT_DUE_BUT if models else TENANT_DUE
                found += await _due_of_tenants(tx, statement, values, busy=busy)
            jobs |= {job.job_id: job for job in found}
        if missing := sorted(job_id for job_id in dispatched if job_id not in jobs):
            left = await STILL_DUE.rows(tx, ids=padded(missing), now=now)
            for job in (Due(*row) for row in left):
                if job.provider in names and (job.provider, job.model) not in without:
                    jobs[job.job_id] = job
    return _in_turns(jobs.values())


async def _due_of_tenants(
    tx: Transaction, statement: Query[Any], values: Mapping[str, Any], *, busy: Collection[str]
) -> list[Due]:
    """Return due jobs of each tenant, if there are several; of many tenants, a random choice."""
    tenants = list(await tx.scalars(TENANTS))
    if len(tenants) < SEVERAL:
        return []
    tenants = [tenant_id for tenant_id in tenants if tenant_id not in busy]
    found: list[Due] = []
    for tenant_id in random.sample(tenants, min(len(tenants), TENANTS_PER_TURN)):
        own = {**values, "tenant_id": tenant_id, "most": min(values["most"], PER_TENANT)}
        found += [Due(*row) for row in await statement.rows(tx, **own)]
    return found


def _in_turns(jobs: Iterable[Due]) -> list[Due]:
    """Return jobs by priority, and within it the first of each tenant, then the second, and so on."""
    taken: Counter[tuple[int, str]] = Counter()
    turns: list[tuple[int, Due]] = []
    for job in sorted(jobs, key=lambda job: (job.run_at, job.job_id)):
        turns.append((taken[job.priority, job.tenant_id], job))
        taken[job.priority, job.tenant_id] += 1
    turns.sort(key=lambda turn: (-turn[1].priority, turn[0]))  # stable: else by time
    return [job for _, job in turns]


async def uncollected(
    db: Reads, *, now: datetime, limit: int, postponed: bool
) -> dict[JobId, datetime]:
    """Return jobs that wait to be collected and are due, with their time, longest due first.

    Either those that were `postponed`, or those that are tried for the first time.
    """
    statement = POSTPONED if postponed else UNCOLLECTED
    async with db.read(short=True) as tx:  # hundreds of rows at most, of two columns
        found = await statement.rows(tx, now=now, most=limit)
        return {JobId(job_id): run_at for job_id, run_at in found}


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
    async with db.read(short=True) as tx:
        return await first_run(tx, FIRST_LATER, providers, now=now)


async def first_run(
    tx: Transaction, statement: Query[Any], providers: Iterable[str], *, now: datetime
) -> datetime | None:
    """Return the earliest time that `FIRST_DUE` or `FIRST_LATER` finds, or None."""
    found: list[datetime] = []
    for provider in providers:
        found.extend(await statement.values(tx, provider=provider, now=now))
    return min(found, default=None)


async def routed(
    db: Database,
    provider: str,
    *,
    now: datetime,
    after: tuple[datetime, JobId] | None,
    limit: int,
) -> list[tuple[datetime, JobId]]:
    """Return due jobs of a provider that may have other routes, longest due first."""
    place = (JobRow.run_at, JobRow.id)
    statement = (
        select(*place)
        .where(text(ROUTED), JobRow.provider == provider, JobRow.run_at <= now)
        .order_by(*place)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(tuple_(*place) > after)
    async with db.read() as tx:
        return [(run_at, JobId(job_id)) for run_at, job_id in await tx.execute(statement)]


async def routed_providers(db: Database) -> list[str]:
    """Return the providers at which pending jobs wait that may have other routes."""
    found: list[str] = []
    async with db.read() as tx:
        while True:
            last = found[-1] if found else ""
            name: str | None = await NEXT_ROUTED.scalar(tx, after=last)
            if name is None:
                return found
            found.append(name)


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
