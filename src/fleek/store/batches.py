"""Batches: their rows, their members in grouped commits, and what has become of these.

How many members are accepted is written with them, under the row's lock. So whoever adds members,
however often and from however many processes at once, adds each one once.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, delete, func, insert, select, text, tuple_, update

from fleek.domain.batch import Batch, BatchView
from fleek.domain.charges import Charge, Movement
from fleek.domain.errors import BudgetExceeded, Conflict, FleekError, Gone, NotFound, TooManyJobs
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import BatchId, Job, JobFilter, JobId, Status
from fleek.domain.media import Media
from fleek.store import jobs, rows
from fleek.store.database import Database, Transaction
from fleek.store.event_stream import Cursor
from fleek.store.idempotency import Claim, Earlier, claim, find
from fleek.store.limits import free_places
from fleek.store.owed import Presenter
from fleek.store.rows import FIRST_ID, LAST_ID
from fleek.store.spend import Spend
from fleek.store.tables import (
    OF_A_BATCH,
    BatchRow,
    EventRow,
    IdempotencyKeyRow,
    JobRow,
)
from fleek.store.updates import JOBS

BATCH: Final = rows.Mapper(Batch, fixed={"id", "tenant_id", "key_id", "total", "created_at"})
BATCHES: Final = BatchRow.__table__
NO_BATCH: Final = "there is no such batch"
FULL_RETRY_AFTER: Final = timedelta(seconds=30)
LATER: Final = JOBS.alias().c  # another job of the same member
SUPERSEDED: Final = (
    select(LATER.id)
    .where(
        LATER.batch_id == JobRow.batch_id,
        LATER.batch_index == JobRow.batch_index,
        LATER.id > JobRow.id,
    )
    .exists()
)
"""Whether a job of a batch has been retried: its retry counts in its place."""

COUNTS: Final = (
    select(JobRow.batch_id, JobRow.status, func.count())
    .where(
        JobRow.batch_id.in_(bindparam("ids", expanding=True)),
        text(f"jobs.{OF_A_BATCH}"),
        ~SUPERSEDED,
    )
    .group_by(JobRow.batch_id, JobRow.status)
)


async def find_earlier(db: Database, identity: RequestIdentity, *, now: datetime) -> Batch | None:
    """Return the batch of the request that this one repeats by its key; None: it repeats none.

    Raises:
        IdempotencyKeyReused: Its key is that of another request.
        Gone: The batch has been removed since.
    """
    if identity.key is None:
        return None
    earlier = await find(db, identity, now=now)
    if earlier is None:
        return None
    async with db.read() as tx:
        return await _known(tx, earlier)


async def create(
    db: Database,
    batch: Batch,
    *,
    identity: RequestIdentity,
    max_live: int | None,
    charge: Charge | None = None,
) -> Batch:
    """Store a batch without members; the outcome is it, or the one that the request repeats.

    `charge`: what its members cost together; it is reserved with each of them.

    Raises:
        IdempotencyKeyReused: The key of the request is that of another one.
        TooManyJobs: The tenant may not have so many further jobs.
        BudgetExceeded: A budget has no room for all of them.
        DatabaseUnavailable: It is not known to be stored.
    """
    async with db.write() as tx:
        if identity.key is not None:
            claimed = Claim(identity, JobId(batch.id), created=True, at=batch.created_at)
            (earlier,) = await claim(tx, [claimed])
            if isinstance(earlier, FleekError):
                raise earlier
            if earlier is not None:
                return await _known(tx, earlier)
        if max_live is not None:
            await _check_places(tx, batch, max_live=max_live)
        if charge is not None and charge.reserved:
            spend = Spend(tx)
            await spend.lock({charge.payer})
            if (budget := spend.exhausted(Movement(None, charge))) is not None:
                raise BudgetExceeded(f"{budget.describe()}, has no room for the batch")
        await tx.execute(insert(BatchRow), BATCH.values(batch))
    return batch


async def _check_places(tx: Transaction, batch: Batch, *, max_live: int) -> None:
    places = (await free_places(tx, {batch.tenant_id: max_live}))[batch.tenant_id]
    if places < batch.total:
        raise TooManyJobs(
            f"the batch has {batch.total} members, and {max(places, 0)} further jobs may be "
            f"unfinished (of {max_live})",
            retry_after=FULL_RETRY_AFTER,
        )


async def _known(tx: Transaction, earlier: Earlier) -> Batch:
    row = await _row(tx, BatchId(earlier.job_id))
    if row is None:
        raise Gone("the batch that this request created has been removed")
    return row


async def _row(tx: Transaction, batch_id: BatchId, *, lock: bool = False) -> Batch | None:
    statement = select(BATCHES).where(BatchRow.id == batch_id)
    found = await tx.execute(statement.with_for_update() if lock else statement)
    row = found.mappings().first()
    return None if row is None else BATCH.read(row)


async def add(
    db: Database,
    batch_id: BatchId,
    members: Sequence[Job],
    *,
    max_live: int | None,
    present: Presenter | None,
    reuse_since: Mapping[JobId, datetime],
) -> int:
    """Accept members, which follow each other, unless others have been since.

    Returns how many are accepted now: fewer or more than up to these, and none of them is added,
    unless the first of them was next.

    Raises:
        NotFound: The batch has been removed.
        Conflict: It has been cancelled.
        FleekError: The error of a member; none of them is accepted.
    """
    async with db.write() as tx:
        batch = await _row(tx, batch_id, lock=True)
        if batch is None:
            raise NotFound(NO_BATCH)
        if batch.cancelled_at is not None:
            raise Conflict("the batch has been cancelled", code="batch_cancelled")
        if batch.accepted != members[0].batch_index:
            return batch.accepted
        refused = await jobs.insert_together(
            tx, members, max_live=max_live, present=present, reuse_since=reuse_since
        )
        for job in members:
            if job.id in refused:
                raise refused[job.id]
        accepted = batch.accepted + len(members)
        changed = update(BatchRow).where(BatchRow.id == batch_id).values(accepted=accepted)
        await tx.execute(changed)
    return accepted


async def close(db: Database, batch_id: BatchId, *, tenant_id: str, now: datetime) -> Batch:
    """Accept no further member of a batch, and return it.

    Raises:
        NotFound: There is none, or it belongs to another tenant.
    """
    async with db.write() as tx:
        batch = await _row(tx, batch_id, lock=True)
        if batch is None or batch.tenant_id != tenant_id:
            raise NotFound(NO_BATCH)
        if not batch.complete:
            ended = update(BatchRow).where(BatchRow.id == batch_id).values(cancelled_at=now)
            await tx.execute(ended)
    return batch


async def get(db: Database, batch_id: BatchId, *, tenant_id: str) -> BatchView:
    """Return a batch with the counts of its members.

    Raises:
        NotFound: There is none, or it belongs to another tenant.
    """
    async with db.read() as tx:
        batch = await _row(tx, batch_id)
        if batch is None or batch.tenant_id != tenant_id:
            raise NotFound(NO_BATCH)
        return (await _views(tx, [batch]))[0]


async def page(
    db: Database, *, tenant_id: str, limit: int, after: BatchId | None = None
) -> list[BatchView]:
    """Return up to `limit` batches of a tenant, newest first, from the one behind `after` on."""
    # one range of the index, and no tenant besides: SQLite would read all batches of that
    place = (BatchRow.tenant_id, BatchRow.id)
    statement = select(BATCHES).where(tuple_(*place) >= [tenant_id, FIRST_ID])
    statement = statement.where(tuple_(*place) < [tenant_id, LAST_ID if after is None else after])
    newest = (column.desc() for column in place)
    async with db.read() as tx:
        found = await tx.execute(statement.order_by(*newest).limit(limit))
        return await _views(tx, [BATCH.read(row) for row in found.mappings()])


async def _views(tx: Transaction, found: Sequence[Batch]) -> list[BatchView]:
    if not found:
        return []
    counts = {batch.id: dict.fromkeys(Status, 0) for batch in found}
    ids = rows.padded([batch.id for batch in found])
    for batch_id, status, number in await tx.execute(COUNTS, {"ids": ids}):
        if batch_id is not None:
            counts[BatchId(batch_id)][Status(status)] = number
    return [BatchView(batch, counts[batch.id]) for batch in found]


async def is_superseded(db: Database, job_id: JobId) -> bool:
    """Whether another job of the same batch, a retry, counts in the place of this one."""
    async with db.read() as tx:
        found = await tx.scalar(select(JobRow.id).where(JobRow.id == job_id, SUPERSEDED))
    return found is not None


async def outputs(
    db: Database, batch_id: BatchId, *, after: int, limit: int
) -> list[tuple[int, Sequence[Media]]]:
    """Return the files of completed members behind a number, up to `limit` members, in order."""
    statement = (
        select(JOBS)
        .where(
            JobRow.batch_id == batch_id,
            text(f"jobs.{OF_A_BATCH}"),
            JobRow.batch_index > after,
            JobRow.status == Status.COMPLETED.value,
            JobRow.purged_at.is_(None),
            ~SUPERSEDED,
        )
        .order_by(JobRow.batch_id, JobRow.batch_index, JobRow.id)
        .limit(limit)
    )
    async with db.read() as tx:
        views = await jobs.read_views(tx, (await tx.execute(statement)).mappings().all())
    return [(view.job.batch_index or 0, view.media) for view in views]


async def last_position(db: Database, batch_id: BatchId) -> Cursor:
    """Return the place in the tenant's stream behind which no event of these jobs is, for now."""
    latest = (
        select(func.max(EventRow.position))
        .join_from(JobRow, EventRow, EventRow.job_id == JobRow.id)
        .where(JobRow.batch_id == batch_id, text(f"jobs.{OF_A_BATCH}"))
    )
    async with db.read() as tx:
        return Cursor((await tx.scalar(latest)) or 0)


async def remove_empty(db: Database, *, before: datetime, limit: int) -> int:
    """Remove batches from before a time whose jobs have all been removed; returns how many.

    A batch that is still the answer to an idempotency key stays.
    """
    batch = BATCHES.alias().c
    empty = (
        select(batch.id)
        .where(
            batch.created_at < before,
            ~select(JobRow.id)
            .where(JobRow.batch_id == batch.id, text(f"jobs.{OF_A_BATCH}"))
            .exists(),
            ~select(IdempotencyKeyRow.key).where(IdempotencyKeyRow.job_id == batch.id).exists(),
        )
        .order_by(batch.created_at)
        .limit(limit)
    )
    async with db.read() as tx:
        ids = list(await tx.scalars(empty))
    if ids:
        async with db.write() as tx:
            await tx.execute(delete(BatchRow).where(BatchRow.id.in_(rows.padded(ids))))
    return len(ids)


def members(batch_id: BatchId, statuses: frozenset[Status] = frozenset()) -> JobFilter:
    """Return the filter of a batch's jobs."""
    return JobFilter(batch_id=batch_id, statuses=statuses)
