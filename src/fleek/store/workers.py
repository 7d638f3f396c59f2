"""Heartbeats of workers, and the lease of the coordinator role."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, bindparam, false, func, insert, or_, select, update

from fleek.domain.job import WorkerId
from fleek.domain.values import dataclass
from fleek.store.database import Database, Reads
from fleek.store.prepared import Query
from fleek.store.tables import JobRow, RoleRow, WorkerRow

# Loops ask these all the time, and to make a statement takes longer than to run it.
RUNNING: Final = Query[Any](
    select(
        WorkerRow.id,
        WorkerRow.host,
        WorkerRow.pid,
        WorkerRow.version,
        WorkerRow.slots,
        WorkerRow.started_at,
        WorkerRow.heartbeat_at,
    )
    .where(WorkerRow.ended_at.is_(None))
    .order_by(WorkerRow.started_at)
)
BEAT: Final = Query[Any](
    update(WorkerRow)
    .where(WorkerRow.id == bindparam("worker_id"), WorkerRow.ended_at.is_(None))
    .values(heartbeat_at=bindparam("now"))
    .returning(WorkerRow.id)
)
LEASE: Final = Query[Any](
    select(RoleRow.worker_id, RoleRow.expires_at).where(RoleRow.name == bindparam("name"))
)
ENDED_HOLDERS: Final = Query[Any](
    select(JobRow.worker_id, func.coalesce(WorkerRow.resigned, False))
    .distinct()
    .join(WorkerRow, WorkerRow.id == JobRow.worker_id, isouter=True)
    .where(
        JobRow.worker_id.is_not(None),
        or_(WorkerRow.id.is_(None), WorkerRow.ended_at.is_not(None)),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One process that works."""

    id: WorkerId
    host: str  # which machine and process space, so that a pid means something
    pid: int
    version: str
    slots: int  # how many jobs it starts or collects at once
    started_at: datetime
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker that has ended."""

    id: WorkerId
    resigned: bool  # by itself, not by a crash


async def register(db: Database, worker: Worker) -> None:
    """Write a worker's first heartbeat."""
    async with db.write() as tx:
        await tx.execute(
            insert(WorkerRow).values(
                id=worker.id,
                host=worker.host,
                pid=worker.pid,
                version=worker.version,
                slots=worker.slots,
                started_at=worker.started_at,
                heartbeat_at=worker.heartbeat_at,
                ended_at=None,
            )
        )


async def beat(db: Database, worker_id: WorkerId, *, now: datetime) -> bool:
    """Write a heartbeat; False if the worker was ended: then it needs a new id."""
    async with db.write() as tx:
        return bool(await BEAT.rows(tx, worker_id=worker_id, now=now))


async def end(
    db: Database, worker_ids: Sequence[WorkerId], *, now: datetime, resigned: bool = False
) -> None:
    """Mark workers as ended: the jobs that they hold may be freed.

    `resigned`: they shut down in order. Otherwise their unconfirmed starts count as crashes.
    """
    async with db.write() as tx:
        await tx.execute(
            update(WorkerRow)
            .where(WorkerRow.id.in_(worker_ids), WorkerRow.ended_at.is_(None))
            .values(ended_at=now, resigned=resigned)
        )


async def end_silent(db: Database, silent: Sequence[Worker], *, now: datetime) -> None:
    """End workers without a heartbeat, except those that have written one since."""
    async with db.write() as tx:
        for worker in silent:
            await tx.execute(
                update(WorkerRow)
                .where(
                    WorkerRow.id == worker.id,
                    WorkerRow.heartbeat_at == worker.heartbeat_at,
                    WorkerRow.ended_at.is_(None),
                )
                .values(ended_at=now, resigned=False)
            )


async def alive(db: Database, *, since: datetime) -> list[Worker]:
    """Return workers with a heartbeat since then, the oldest first; for display only."""
    return [worker for worker in await running(db) if worker.heartbeat_at >= since]


async def running(db: Reads) -> list[Worker]:
    """Return workers that have not ended, the oldest first."""
    async with db.read(short=True) as tx:
        return [Worker(**row) for row in await RUNNING.dicts(tx)]


async def held_jobs(db: Database) -> dict[WorkerId, int]:
    """Return how many jobs each worker starts or collects now; a worker without any is left out."""
    statement = (
        select(JobRow.worker_id, func.count())
        .where(JobRow.worker_id.is_not(None))
        .group_by(JobRow.worker_id)
    )
    async with db.read() as tx:
        return {
            WorkerId(worker_id): number
            for worker_id, number in await tx.execute(statement)
            if worker_id is not None
        }


async def ended_holders(db: Database) -> list[Ended]:
    """Return ended workers that hold jobs.

    Also those that claimed a job after their end: a late process, or a commit that was under way.
    """
    async with db.read() as tx:
        return [
            Ended(WorkerId(worker_id), resigned)
            for worker_id, resigned in await ENDED_HOLDERS.rows(tx)
            if worker_id is not None
        ]


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds a role, and what changes with each renewal."""

    worker_id: WorkerId | None
    expires_at: datetime


async def lease(db: Database, name: str) -> Lease:
    """Return a role's lease as it is now."""
    async with db.read(short=True) as tx:
        ((worker_id, expires_at),) = await LEASE.rows(tx, name=name)
    return Lease(None if worker_id is None else WorkerId(worker_id), expires_at)


async def take_role(
    db: Database, name: str, worker_id: WorkerId, *, until: datetime, lapsed: Lease | None = None
) -> bool:
    """Take or keep a role until then; False if another living worker holds it.

    `lapsed`: a lease that has not been renewed in time; it is taken if it still has not.
    """
    unrenewed: ColumnElement[bool] = false()
    if lapsed is not None:
        unrenewed = and_(
            RoleRow.worker_id == lapsed.worker_id, RoleRow.expires_at == lapsed.expires_at
        )
    ended = select(WorkerRow.id).where(WorkerRow.ended_at.is_not(None))
    async with db.write() as tx:
        result = await tx.execute(
            update(RoleRow)
            .where(
                RoleRow.name == name,
                or_(
                    RoleRow.worker_id.is_(None),
                    RoleRow.worker_id == worker_id,
                    unrenewed,
                    RoleRow.worker_id.in_(ended),
                ),
            )
            .values(worker_id=worker_id, expires_at=until)
        )
        return result.rowcount == 1


async def drop_role(db: Database, name: str, worker_id: WorkerId) -> None:
    """Give a role back, so that the next worker need not wait for its end."""
    async with db.write() as tx:
        await tx.execute(
            update(RoleRow)
            .where(RoleRow.name == name, RoleRow.worker_id == worker_id)
            .values(worker_id=None)
        )


async def holder(db: Database, name: str, *, now: datetime) -> WorkerId | None:
    """Return who holds a role now."""
    async with db.read() as tx:
        found = await tx.scalar(
            select(RoleRow.worker_id).where(RoleRow.name == name, RoleRow.expires_at >= now)
        )
    return None if found is None else WorkerId(found)
