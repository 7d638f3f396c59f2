"""Deliveries of webhooks: what is due, its leases, its outcomes, and the log of attempts.

Deliveries to one receiver are a lane. Within a lane, those about one job keep their order: a later
one is not due before the earlier ones have been delivered or given up.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, select, text, update
from uuid_utils.compat import uuid7

from fleek import strict
from fleek.domain.audit import SERVICE, Action, entry
from fleek.domain.errors import FleekError
from fleek.domain.values import dataclass
from fleek.domain.webhooks import (
    DISABLED_EVENT,
    Delivery,
    DeliveryAttempt,
    DeliveryId,
    DeliveryState,
    Endpoint,
    EndpointId,
)
from fleek.store import rows
from fleek.store.audit import record
from fleek.store.database import Database, Transaction
from fleek.store.endpoints import ENDPOINT, LOCK_ENDPOINT
from fleek.store.owed import DELIVERY, INSERT_DELIVERIES, SELECT_ENDPOINTS
from fleek.store.tables import UNDELIVERED, DeliveryAttemptRow, DeliveryRow, EndpointRow, Instant

DELIVERIES: Final = DeliveryRow.__table__
ATTEMPT: Final = rows.Mapper(DeliveryAttempt, renamed={"number": "n"})
PAGE: Final = 32  # due deliveries of a lane that are looked at in one turn
KEPT_ATTEMPTS: Final = 30  # of each delivery
PENDING: Final = text(UNDELIVERED)
DELIVERING: Final = 0x64656C76  # a lock of PostgreSQL
LOCK_DELIVERING: Final = text(
    "SELECT set_config('lock_timeout', '20s', true), pg_advisory_xact_lock(:id)"
)

LANES: Final = text(
    f"""WITH RECURSIVE lanes(lane) AS (
      SELECT (SELECT lane FROM deliveries WHERE {UNDELIVERED} ORDER BY lane LIMIT 1)
      UNION ALL
      SELECT (SELECT d.lane FROM deliveries d WHERE d.{UNDELIVERED} AND d.lane > lanes.lane
              ORDER BY d.lane LIMIT 1)
      FROM lanes WHERE lanes.lane IS NOT NULL)
    SELECT lane, (SELECT d.next_at FROM deliveries d WHERE d.{UNDELIVERED}
                  AND d.lane = lanes.lane ORDER BY d.next_at LIMIT 1) AS next_at
    FROM lanes WHERE lane IS NOT NULL"""  # noqa: S608 - constants
).columns(DeliveryRow.lane, DeliveryRow.next_at)
DUE: Final = (
    select(DELIVERIES)
    .where(PENDING, DeliveryRow.lane == bindparam("lane"), DeliveryRow.next_at <= bindparam("now"))
    .order_by(DeliveryRow.next_at, DeliveryRow.id)
    .limit(PAGE)
    .with_for_update()
)
FIRST: Final = (
    select(DeliveryRow.id, DeliveryRow.next_at)
    .where(
        PENDING, DeliveryRow.lane == bindparam("lane"), DeliveryRow.job_id == bindparam("job_id")
    )
    .order_by(DeliveryRow.seq)
    .limit(1)
)
LOCK: Final = select(DELIVERIES).where(DeliveryRow.id == bindparam("_id")).with_for_update()
MOVE: Final = (
    update(DeliveryRow)
    .where(DeliveryRow.id == bindparam("_id"))
    .values(next_at=bindparam("next_at"))
)
INSERT_ATTEMPT: Final = insert(DeliveryAttemptRow)
DROP_ATTEMPTS: Final = delete(DeliveryAttemptRow).where(
    DeliveryAttemptRow.delivery_id == bindparam("_id"),
    DeliveryAttemptRow.number <= bindparam("_oldest"),
)
CHANGE: Final = (
    update(DeliveryRow)
    .where(DeliveryRow.id == bindparam("_id"))
    .values({column: bindparam(column) for column in DELIVERY.changing})
)


class Lane(NamedTuple):
    """A receiver for which something is pending, and when the first of it is due."""

    id: UUID
    next_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """A wish for due deliveries of a lane."""

    lane: UUID
    limit: int  # how many at most
    now: datetime
    until: datetime  # the end of their lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt makes of a delivery."""

    delivery: Delivery  # as it was claimed
    at: datetime  # the end of the attempt
    seconds: float
    state: DeliveryState
    next_at: datetime | None  # of the next attempt, if it is still pending
    status: int | None
    reason: str
    healthy: bool | None  # whether the receiver works; None: it was not called, or for a test
    gone: bool = False  # it wants nothing any more
    quiet_since: datetime | None = None  # an outage whose latest failure was earlier has ended
    failing_since: datetime | None = None  # an endpoint that fails for longer is disabled


async def lanes(db: Database) -> list[Lane]:
    """Return each lane with pending deliveries, by steps in an index, not by a scan."""
    async with db.read() as tx:
        return [Lane(lane, next_at) for lane, next_at in await tx.execute(LANES)]


async def claim(db: Database, wish: Claim) -> list[Delivery]:
    """Lease due deliveries of a lane, oldest first; none while an earlier one of its job is pending.

    What is not reported by the end of its lease is due again.
    """
    claimed: list[Delivery] = await db.grouped_write(_claim_all, wish, yields=True)
    return claimed


async def _claim_all(
    tx: Transaction, wishes: Sequence[Claim]
) -> list[list[Delivery] | FleekError]:
    await _take_turns(tx)
    return [await _claim(tx, wish) for wish in wishes]


async def _take_turns(tx: Transaction) -> None:
    """Let no two transactions lock the same rows in different orders; SQLite has one writer."""
    if tx.dialect.name == "postgresql":
        await tx.execute(LOCK_DELIVERING, {"id": DELIVERING})


async def _claim(tx: Transaction, wish: Claim) -> list[Delivery]:
    found = await tx.execute(DUE, {"lane": wish.lane, "now": wish.now})
    claimed: list[Delivery] = []
    for delivery in [DELIVERY.read(row) for row in found.mappings()]:
        first, next_at = await _first(tx, delivery)
        if first != delivery.id:  # as late as what it waits for
            await tx.execute(MOVE, {"_id": delivery.id, "next_at": next_at})
            continue
        await tx.execute(MOVE, {"_id": delivery.id, "next_at": wish.until})
        claimed.append(replace(delivery, next_at=wish.until))
        if len(claimed) == wish.limit:
            break
    return claimed


async def _first(tx: Transaction, delivery: Delivery) -> tuple[DeliveryId, datetime | None]:
    """Return the first pending delivery of a delivery's lane and job, and when it is due."""
    if delivery.job_id is None:
        return delivery.id, delivery.next_at
    place = {"lane": delivery.lane, "job_id": delivery.job_id}
    first, next_at = (await tx.execute(FIRST, place)).one()
    return DeliveryId(first), next_at


async def reschedule_from_future(
    db: Database,
    *,
    now: datetime,
    tolerance: timedelta,
    unsent: timedelta,
    kept: AbstractSet[DeliveryId],
) -> int:
    """Make deliveries due as they were meant to be, after the clock was set back; returns how many.

    One whose latest attempt was written later than now waits from now on, as long as it would have.
    One that was never sent, and is not due for longer than `unsent`, is due now. `kept` are left.
    """
    written = func.coalesce(
        select(DeliveryAttemptRow.at)
        .where(
            DeliveryAttemptRow.delivery_id == DeliveryRow.id,
            DeliveryAttemptRow.number == DeliveryRow.attempts,
        )
        .scalar_subquery(),
        DeliveryRow.created_at,
        type_=Instant(),
    )
    statement = select(
        DeliveryRow.id, DeliveryRow.next_at, DeliveryRow.failures, written.label("written")
    ).where(PENDING, DeliveryRow.next_at > now + tolerance)
    moved = 0
    async with db.write() as tx:
        await _take_turns(tx)
        for row in (await tx.execute(statement)).all():
            next_at = now
            if row.written > now + tolerance:
                next_at += max(row.next_at - row.written, timedelta(0))
            elif row.failures or row.next_at - now <= unsent:
                continue
            if row.id not in kept:
                await tx.execute(MOVE, {"_id": row.id, "next_at": next_at})
                moved += 1
    return moved


async def report(db: Database, outcome: Outcome) -> str | None:
    """Write what an attempt came to; returns why its endpoint is disabled with it, if it is.

    Of an attempt whose lease has been lost, only success counts.
    """
    disabled: str | None = await db.grouped_write(_report_all, outcome, yields=True)
    return disabled


async def _report_all(
    tx: Transaction, outcomes: Sequence[Outcome]
) -> list[str | FleekError | None]:
    await _take_turns(tx)
    return [await _report(tx, outcome) for outcome in outcomes]


async def _report(tx: Transaction, outcome: Outcome) -> str | None:
    row = (await tx.execute(LOCK, {"_id": outcome.delivery.id})).mappings().first()
    if row is None:
        return None
    current = DELIVERY.read(row)
    delivered = outcome.state is DeliveryState.DELIVERED
    if current.state is not DeliveryState.PENDING or not (
        delivered or current.next_at == outcome.delivery.next_at
    ):
        return None
    after = _after(current, outcome)
    await tx.execute(CHANGE, {**DELIVERY.changes(after), "_id": after.id})
    await _log(tx, after, outcome)
    if after.state is not DeliveryState.PENDING:
        await _release_next(tx, after, now=outcome.at)
    if after.endpoint_id is None or outcome.healthy is None:
        return None
    return await _note_health(tx, after.endpoint_id, outcome)


def _after(current: Delivery, outcome: Outcome) -> Delivery:
    ended = outcome.state is not DeliveryState.PENDING
    return replace(
        current,
        state=outcome.state,
        failures=current.failures + (outcome.healthy is False),
        attempts=current.attempts + 1,
        next_at=None if ended else outcome.next_at,
        last_status=outcome.status,
        last_reason=outcome.reason,
        ended_at=outcome.at if ended else None,
    )


async def _log(tx: Transaction, after: Delivery, outcome: Outcome) -> None:
    attempt = DeliveryAttempt(
        delivery_id=after.id,
        number=after.attempts,
        at=outcome.at,
        seconds=outcome.seconds,
        status=outcome.status,
        reason=outcome.reason,
    )
    await tx.execute(INSERT_ATTEMPT, ATTEMPT.values(attempt))
    if attempt.number > KEPT_ATTEMPTS:
        oldest = attempt.number - KEPT_ATTEMPTS
        await tx.execute(DROP_ATTEMPTS, {"_id": after.id, "_oldest": oldest})


async def _release_next(tx: Transaction, ended: Delivery, *, now: datetime) -> None:
    """Make the next delivery of the same lane and job due, which has waited for this one."""
    if ended.job_id is None:
        return
    place = {"lane": ended.lane, "job_id": ended.job_id}
    if (following := (await tx.execute(FIRST, place)).first()) is not None:
        next_at = min(following.next_at, now)
        await tx.execute(MOVE, {"_id": following.id, "next_at": next_at})


async def _note_health(tx: Transaction, endpoint_id: EndpointId, outcome: Outcome) -> str | None:
    """Note since when an endpoint fails; disable it if it is gone, or fails for too long."""
    row = (await tx.execute(LOCK_ENDPOINT, {"_id": endpoint_id})).mappings().first()
    if row is None:
        return None
    endpoint = ENDPOINT.read(row)
    after, reason = _health(endpoint, outcome)
    if after != endpoint:
        values = {
            "failing_since": after.failing_since,
            "last_failure_at": after.last_failure_at,
            "enabled": after.enabled,
            "disabled_reason": after.disabled_reason,
        }
        await tx.execute(update(EndpointRow).where(EndpointRow.id == endpoint_id).values(values))
    if reason is not None:
        await _tell_others(tx, after, reason, at=outcome.at)
    return reason


async def _tell_others(tx: Transaction, disabled: Endpoint, reason: str, *, at: datetime) -> None:
    """Owe the event that an endpoint was disabled to the others that have chosen it, and record it."""
    event = {
        "type": DISABLED_EVENT,
        "timestamp": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "data": {"endpoint_id": str(disabled.id), "reason": reason},
    }
    owed = [
        Delivery(
            id=DeliveryId(uuid7()),
            tenant_id=disabled.tenant_id,
            lane=endpoint_id,
            endpoint_id=EndpointId(endpoint_id),
            type=DISABLED_EVENT,
            body=strict.dumps(event),
            created_at=at,
            next_at=at,
        )
        for endpoint_id, _, events in await SELECT_ENDPOINTS.rows(tx, tenants=[disabled.tenant_id])
        if DISABLED_EVENT in events
    ]
    await INSERT_DELIVERIES.run(tx, owed)
    line = entry(
        Action.ENDPOINT_DISABLED,
        str(disabled.id),
        by=SERVICE,
        tenant_id=disabled.tenant_id,
        at=at,
        reason=reason,
    )
    await record(tx, line)


def _health(endpoint: Endpoint, outcome: Outcome) -> tuple[Endpoint, str | None]:
    """Return an endpoint after an attempt, and why it is disabled with it, if it is."""
    if outcome.healthy:
        return replace(endpoint, failing_since=None, last_failure_at=None), None
    since, latest = endpoint.failing_since, endpoint.last_failure_at
    quiet = latest is None or (outcome.quiet_since is not None and latest < outcome.quiet_since)
    since = outcome.at if since is None or quiet else since
    after = replace(endpoint, failing_since=since, last_failure_at=outcome.at)
    long = outcome.failing_since is not None and since <= outcome.failing_since
    if not endpoint.enabled or not (outcome.gone or long):
        return after, None
    reason = "gone" if outcome.gone else "failing"
    return replace(after, enabled=False, disabled_reason=reason), reason


async def remove_ended(db: Database, *, before: datetime, limit: int) -> int:
    """Remove deliveries that ended before a time, with their attempts; returns how many."""
    oldest = (
        select(DeliveryRow.id)
        .where(DeliveryRow.ended_at < before)
        .order_by(DeliveryRow.ended_at, DeliveryRow.id)
        .limit(limit)
    )
    async with db.write() as tx:
        result = await tx.execute(delete(DeliveryRow).where(DeliveryRow.id.in_(oldest)))
        return result.rowcount
