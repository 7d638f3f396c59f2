"""How many requests callers may still send, counted across all processes of the API.

A process takes tokens in advance, so only one in many requests causes a statement.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, select, text, update

from fleek.domain.request_rate import RequestRate
from fleek.store import rows
from fleek.store.database import Database, Transaction
from fleek.store.prepared import Query, Write
from fleek.store.tables import Instant, RequestRateRow

REMOVED: Final = 1000  # rows at a time

LOCK: Final = Query[Any](  # in the order of their ids, so that two transactions never deadlock
    select(RequestRateRow.id, RequestRateRow.full_at)
    .where(RequestRateRow.id.in_(bindparam("ids", expanding=True)))
    .order_by(RequestRateRow.id)
    .with_for_update()
)
INSERT: Final = Write(
    text(
        "INSERT INTO request_rates (id, full_at) VALUES (:id, :full_at)"
        " ON CONFLICT (id) DO NOTHING"
    ).bindparams(bindparam("full_at", type_=Instant()))
)
UPDATE: Final = Write(
    update(RequestRateRow)
    .where(RequestRateRow.id == bindparam("_id"))
    .values(full_at=bindparam("full_at"))
)


class Lease(NamedTuple):
    """Tokens of a bucket that one process has taken."""

    tokens: int  # 0: the bucket is empty
    full_at: datetime  # see `fleek.domain.request_rate`


class _Wish(NamedTuple):
    """A process asks for tokens of a bucket."""

    bucket: str
    rate: RequestRate
    tokens: int
    now: datetime


async def take(
    db: Database, bucket: str, rate: RequestRate, tokens: int, *, now: datetime
) -> Lease:
    """Take up to so many tokens: as many as the bucket has.

    Raises:
        DatabaseUnavailable: It is not known whether they were taken.
    """
    return await db.grouped_write(_take_all, _Wish(bucket, rate, tokens, now))


async def _take_all(tx: Transaction, wishes: Sequence[_Wish]) -> list[Lease]:
    full_at = await _locked(tx, {wish.bucket: wish.now for wish in wishes})
    leases: list[Lease] = []
    for wish in wishes:
        known = full_at[wish.bucket]
        tokens = min(wish.tokens, wish.rate.free(known, wish.now))
        full_at[wish.bucket] = wish.rate.spend(tokens, known, wish.now)
        leases.append(Lease(tokens, full_at[wish.bucket]))
    changes = [{"_id": bucket, "full_at": at} for bucket, at in sorted(full_at.items())]
    await UPDATE.run(tx, changes)
    return leases


async def _locked(tx: Transaction, new: dict[str, datetime]) -> dict[str, datetime]:
    """Return when each bucket is full again; one that is new is full now."""
    ids = rows.padded(sorted(new))
    found: dict[str, datetime] = dict(await LOCK.rows(tx, ids=ids))
    missing = [{"id": bucket, "full_at": new[bucket]} for bucket in sorted(new.keys() - found)]
    if missing:
        await INSERT.run(tx, missing)
        found = dict(await LOCK.rows(tx, ids=ids))
    return found


async def remove_full(db: Database, *, before: datetime) -> int:
    """Remove buckets that have been full since then: they are made again; returns how many."""
    page = (
        select(RequestRateRow.full_at)
        .where(RequestRateRow.full_at < before)
        .order_by(RequestRateRow.full_at)
        .limit(REMOVED)
    )
    async with db.read() as tx:
        full = (await tx.scalars(page)).all()
    if full:
        async with db.write() as tx:
            await tx.execute(delete(RequestRateRow).where(RequestRateRow.full_at <= full[-1]))
    return len(full)
