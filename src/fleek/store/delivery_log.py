"""Deliveries as their tenant sees them: the log, its attempts, tests and replays."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import insert, literal, select, text, tuple_

from fleek.domain.audit import AuditEntry
from fleek.domain.errors import Conflict, NotFound
from fleek.domain.job import JobId
from fleek.domain.values import dataclass
from fleek.domain.webhooks import (
    Delivery,
    DeliveryAttempt,
    DeliveryId,
    DeliveryState,
    EndpointId,
)
from fleek.store.audit import record
from fleek.store.database import Database, Transaction
from fleek.store.deliveries import ATTEMPT, CHANGE, DELIVERIES, LOCK
from fleek.store.owed import DELIVERY
from fleek.store.rows import FIRST_ID, LAST_ID
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

    @property
    def number(self) -> int:
        """How many conditions there are."""
        return sum(one is not None for one in (self.endpoint_id, self.job_id, self.state))

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
    place = _place(wanted, tenant_id)
    # As ranges of an index: PostgreSQL would else walk through all deliveries by their ids.
    range_of = tuple_(place.column, DeliveryRow.id)
    statement = (
        select(*WITHOUT_BODY)
        .where(range_of >= [place.value, FIRST_ID], range_of < [place.value, after or LAST_ID])
        .order_by(place.column.desc(), DeliveryRow.id.desc())
    )
    if place.condition is not None:
        statement = statement.where(place.condition)
    most = limit if wanted.number == place.conditions else LOOKED_AT
    async with db.read() as tx:
        rows = (await tx.execute(statement.limit(most + 1))).mappings().all()
    seen = [DELIVERY.read(row) for row in rows]
    if seen and seen[0].tenant_id != tenant_id:
        return DeliveryPage((), None)
    found = [delivery for delivery in seen[:most] if wanted.admits(delivery)]
    if len(found) > limit:
        return DeliveryPage(found[:limit], found[limit - 1].id)
    return DeliveryPage(found, seen[most - 1].id if len(seen) > most else None)


class _Place(NamedTuple):
    """Where a page is read: the first column of an index, and what it must be."""

    column: Any
    value: Any
    conditions: int  # of the filter, which need not be checked again
    condition: Any = None  # by which the index is partial


def _place(wanted: DeliveryFilter, tenant_id: str) -> _Place:
    """Return where a filter finds its deliveries.

    What belongs to one job, or to one endpoint, belongs to one tenant.
    """
    if wanted.job_id is not None:
        return _Place(DeliveryRow.job_id, wanted.job_id, 1)
    if wanted.state is DeliveryState.FAILED:
        return _Place(DeliveryRow.tenant_id, tenant_id, 1, text(UNDELIVERABLE))
    if wanted.endpoint_id is not None:
        return _Place(DeliveryRow.endpoint_id, wanted.endpoint_id, 1)
    return _Place(DeliveryRow.tenant_id, tenant_id, 0)


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
    db: Database,
    delivery_id: DeliveryId,
    *,
    tenant_id: str,
    now: datetime,
    audit: AuditEntry | None = None,
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
        await record(tx, audit)
    return due


async def _check_enabled(tx: Transaction, endpoint_id: UUID) -> None:
    enabled = await tx.scalar(select(EndpointRow.enabled).where(EndpointRow.id == endpoint_id))
    if enabled is None:
        raise Conflict("its endpoint has been deleted", code="endpoint_deleted")
    if not enabled:
        raise Conflict("its endpoint is disabled: enable it first", code="endpoint_disabled")
