"""Deliveries as their tenant sees them: the log, its attempts, tests and replays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import insert, literal, select, text

from fleek.domain.errors import Conflict, NotFound
from fleek.domain.job import JobId
from fleek.domain.webhooks import (
    Delivery,
    DeliveryAttempt,
    DeliveryId,
    DeliveryState,
    EndpointId,
)
from fleek.store.database import Database, Transaction
from fleek.store.deliveries import ATTEMPT, CHANGE, DELIVERIES, LOCK
from fleek.store.owed import DELIVERY
from fleek.store.tables import UNDELIVERABLE, DeliveryAttemptRow, DeliveryRow, EndpointRow

LOOKED_AT: Final = 1000  # deliveries at most, for one page
WITHOUT_BODY: Final = [
    literal(b"").label("body") if column.name == "body" else column for column in DELIVERIES.c
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries; None: all."""

    endpoint_id: EndpointId | None = None
    job_id: JobId | None = None
    state: DeliveryState | None = None

    def admits(self, delivery: Delivery) -> bool:
        """Whether a delivery is among them."""
        return (
            self.endpoint_id in {None, delivery.endpoint_id}
            and self.job_id in {None, delivery.job_id}
            and self.state in {None, delivery.state}
        )


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some deliveries without their bodies, and where the next page begins; None: this is the last."""

    deliveries: Sequence[Delivery]
    after: DeliveryId | None


async def page(
    db: Database,
    wanted: DeliveryFilter,
    *,
    tenant_id: str,
    limit: int,
    after: DeliveryId | None = None,
) -> DeliveryPage:
    """Return deliveries, newest first.

    A limited number of them is looked at: a page may hold fewer than `limit` although more follow.
    """
    statement = select(*WITHOUT_BODY).order_by(DeliveryRow.id.desc()).limit(LOOKED_AT + 1)
    # By one index each. What belongs to one job, or to one endpoint, belongs to one tenant.
    if wanted.job_id is not None:
        statement = statement.where(DeliveryRow.job_id == wanted.job_id)
    elif wanted.state is DeliveryState.FAILED:
        statement = statement.where(DeliveryRow.tenant_id == tenant_id, text(UNDELIVERABLE))
    elif wanted.endpoint_id is not None:
        statement = statement.where(DeliveryRow.endpoint_id == wanted.endpoint_id)
    else:
        statement = statement.where(DeliveryRow.tenant_id == tenant_id)
    if after is not None:
        statement = statement.where(DeliveryRow.id < after)
    async with db.read() as tx:
        rows = (await tx.execute(statement)).mappings().all()
    seen = [DELIVERY.read(row) for row in rows]
    if seen and seen[0].tenant_id != tenant_id:
        return DeliveryPage((), None)
    found = [delivery for delivery in seen[:LOOKED_AT] if wanted.admits(delivery)]
    if len(found) > limit:
        return DeliveryPage(found[:limit], found[limit - 1].id)
    return DeliveryPage(found, seen[LOOKED_AT - 1].id if len(seen) > LOOKED_AT else None)


async def get(db: Database, delivery_id: DeliveryId, *, tenant_id: str) -> Delivery:
    """Return a delivery.

    Raises:
        NotFound: There is none, or it belongs to another tenant.
    """
    async with db.read() as tx:
        return _own((await tx.execute(_one(delivery_id))).mappings().first(), tenant_id)


def _one(delivery_id: DeliveryId) -> Any:
    return select(DELIVERIES).where(DeliveryRow.id == delivery_id)


def _own(row: Any, tenant_id: str) -> Delivery:
    if row is None or row["tenant_id"] != tenant_id:
        raise NotFound("there is no such delivery")
    return DELIVERY.read(row)


async def attempts(db: Database, delivery_id: DeliveryId) -> list[DeliveryAttempt]:
    """Return the attempts of a delivery that are kept, oldest first."""
    statement = (
        select(DeliveryAttemptRow.__table__)
        .where(DeliveryAttemptRow.delivery_id == delivery_id)
        .order_by(DeliveryAttemptRow.number)
    )
    async with db.read() as tx:
        return [ATTEMPT.read(row) for row in (await tx.execute(statement)).mappings()]


async def add(db: Database, delivery: Delivery) -> None:
    """Store a delivery that no event owes."""
    async with db.write() as tx:
        await tx.execute(insert(DeliveryRow), DELIVERY.values(delivery))


async def replay(
    db: Database, delivery_id: DeliveryId, *, tenant_id: str, now: datetime
) -> Delivery:
    """Make a delivery due, whatever its state, with all of its retries; returns it.

    Raises:
        NotFound: There is none, or it belongs to another tenant.
        Conflict: Its endpoint has been deleted, or is disabled.
    """
    async with db.write() as tx:
        row = (await tx.execute(LOCK, {"_id": delivery_id})).mappings().first()
        delivery = _own(row, tenant_id)
        if delivery.endpoint_id is not None and not delivery.is_test:
            await _check_enabled(tx, delivery.endpoint_id)
        state = DeliveryState.PENDING
        due = replace(delivery, state=state, failures=0, next_at=now, ended_at=None)
        await tx.execute(CHANGE, {**DELIVERY.changes(due), "_id": due.id})
    return due


async def _check_enabled(tx: Transaction, endpoint_id: UUID) -> None:
    enabled = await tx.scalar(select(EndpointRow.enabled).where(EndpointRow.id == endpoint_id))
    if enabled is None:
        raise Conflict("its endpoint has been deleted", code="endpoint_deleted")
    if not enabled:
        raise Conflict("its endpoint is disabled: enable it first", code="endpoint_disabled")
