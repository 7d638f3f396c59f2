"""Operations on many jobs, each with the place that it has reached."""

from datetime import datetime
from enum import StrEnum
from typing import Final, NewType
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, select, update

from fleek.domain.audit import AuditEntry
from fleek.domain.errors import Conflict, NotFound
from fleek.domain.job import JobFilter, JobId
from fleek.domain.values import dataclass
from fleek.store.audit import record
from fleek.store.database import Database
from fleek.store.rows import Mapper
from fleek.store.tables import BulkOperationRow

OperationId = NewType("OperationId", UUID)  # version 7: sorts by time

MOST_OPEN: Final = 20  # per tenant


class BulkAction(StrEnum):
    """What is done to each job."""

    CANCEL = "cancel"
    RETRY = "retry"
    PURGE = "purge"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOperation:
    """One operation on many jobs of a tenant."""

    id: OperationId
    tenant_id: str
    key_id: str | None = None  # the API key of the caller
    action: BulkAction
    ids: tuple[str, ...] = ()  # sorted
    wanted: JobFilter | None = None  # in place of ids
    matched: int  # jobs that were found when it was accepted; up to 10,000 are counted
    created_at: datetime
    position: JobId | None = None  # the last job that is dealt with
    pages: int = 0  # rises with each page
    changed: int = 0
    skipped: int = 0  # jobs that are not there, or whose state forbids it
    failed: int = 0
    ended_at: datetime | None = None


OPERATION: Final = Mapper(
    BulkOperation,
    fixed={"id", "tenant_id", "key_id", "action", "ids", "wanted", "matched", "created_at"},
)
OPERATIONS: Final = BulkOperationRow.__table__
ADVANCE: Final = (
    update(BulkOperationRow)
    .where(BulkOperationRow.id == bindparam("_id"), BulkOperationRow.pages < bindparam("pages"))
    .values({column: bindparam(column) for column in OPERATION.changing})
)


async def accept(
    db: Database, operation: BulkOperation, *, audit: AuditEntry | None = None
) -> None:
    """Store a new operation.

    Raises:
        Conflict: Too many of the tenant's operations have not ended.
    """
    waiting = select(func.count()).where(
        BulkOperationRow.ended_at.is_(None), BulkOperationRow.tenant_id == operation.tenant_id
    )
    async with db.write() as tx:
        if (await tx.scalar(waiting) or 0) >= MOST_OPEN:
            raise Conflict(
                f"{MOST_OPEN} operations have not ended yet: wait for one of them",
                code="too_many_operations",
            )
        await tx.execute(insert(BulkOperationRow), OPERATION.values(operation))
        await record(tx, audit)


async def get(db: Database, operation_id: OperationId, *, tenant_id: str) -> BulkOperation:
    """Return an operation.

    Raises:
        NotFound: There is none, or it belongs to another tenant.
    """
    statement = select(OPERATIONS).where(
        BulkOperationRow.id == operation_id, BulkOperationRow.tenant_id == tenant_id
    )
    async with db.read() as tx:
        row = (await tx.execute(statement)).mappings().first()
    if row is None:
        raise NotFound("there is no such operation")
    return OPERATION.read(row)


async def next_open(db: Database) -> BulkOperation | None:
    """Return the operation of which the fewest pages are done, so that a small one need not wait."""
    statement = (
        select(OPERATIONS)
        .where(BulkOperationRow.ended_at.is_(None))
        .order_by(BulkOperationRow.pages, BulkOperationRow.id)
        .limit(1)
    )
    async with db.read() as tx:
        row = (await tx.execute(statement)).mappings().first()
    return None if row is None else OPERATION.read(row)


async def advance(db: Database, operation: BulkOperation) -> None:
    """Store what an operation has reached, unless another coordinator has got further."""
    async with db.write() as tx:
        await tx.execute(ADVANCE, {"_id": operation.id, **OPERATION.changes(operation)})


async def remove_ended(db: Database, *, before: datetime) -> None:
    """Remove operations that ended before a time."""
    async with db.write() as tx:
        await tx.execute(delete(BulkOperationRow).where(BulkOperationRow.ended_at < before))
