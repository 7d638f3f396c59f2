"""Tenants, and the limits of each."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from sqlalchemy import bindparam, func, select, update

from fleek.domain.audit import AuditEntry
from fleek.domain.errors import FleekError, NotFound
from fleek.domain.tenant import Tenant, TenantLimits
from fleek.store import rows
from fleek.store.audit import record
from fleek.store.database import Database, Transaction
from fleek.store.prepared import Query
from fleek.store.tables import TenantRow

PAGE: Final = 1000
NAMES: Final = frozenset(field.name for field in fields(TenantLimits))

TENANTS: Final = TenantRow.__table__
SELECT_TENANTS: Final = Query[Any](
    select(TENANTS).where(TenantRow.id.in_(bindparam("ids", expanding=True)))
)
LOCK_TENANT: Final = select(TENANTS).where(TenantRow.id == bindparam("id")).with_for_update()

Change = Callable[[Tenant], tuple[Tenant, Sequence[AuditEntry]]]
"""Decides what becomes of a tenant as it is under lock; returns it, and the lines about it."""


async def find(db: Database, tenant_id: str) -> Tenant | None:
    """Return a tenant, or None; concurrent callers share a read."""
    return await db.grouped_read(_find_all, tenant_id, short=True)


async def _find_all(
    tx: Transaction, tenant_ids: Sequence[str]
) -> list[Tenant | FleekError | None]:
    tenants = await read(tx, set(tenant_ids))
    return [tenants.get(tenant_id) for tenant_id in tenant_ids]


async def read(tx: Transaction, tenant_ids: Collection[str]) -> Mapping[str, Tenant]:
    """Return those of these tenants that there are."""
    found = await SELECT_TENANTS.dicts(tx, ids=rows.padded(sorted(tenant_ids)))
    return {row["id"]: _read(row) for row in found}


async def list_tenants(db: Database, *, after: str = "") -> list[Tenant]:
    """Return the next tenants by their id, a page at most."""
    page = select(TENANTS).where(TenantRow.id > after).order_by(TenantRow.id).limit(PAGE)
    async with db.read() as tx:
        return [_read(row) for row in (await tx.execute(page)).mappings()]


async def number_disabled(db: Database) -> int:
    """Return how many tenants are disabled."""
    number = select(func.count()).where(TenantRow.disabled_at.is_not(None))
    async with db.read() as tx:
        return int(await tx.scalar(number) or 0)


async def change(db: Database, tenant_id: str, decide: Change) -> Tenant:
    """Change a tenant, and write the lines of the audit log about it with the change.

    Raises:
        NotFound: There is none.
    """
    async with db.write() as tx:
        row = (await tx.execute(LOCK_TENANT, {"id": tenant_id})).mappings().first()
        if row is None:
            raise NotFound("there is no such tenant")
        before = _read(row)
        after, lines = decide(before)
        if after != before:
            own = {name: most for name, most in asdict(after.limits).items() if most is not None}
            values = {"disabled_at": after.disabled_at, "limits": own or None}
            await tx.execute(update(TenantRow).where(TenantRow.id == tenant_id).values(values))
            await record(tx, *lines)
    return after


def _read(row: Any) -> Tenant:
    own = {name: most for name, most in (row["limits"] or {}).items() if name in NAMES}
    return Tenant(
        id=row["id"],
        created_at=row["created_at"],
        disabled_at=row["disabled_at"],
        limits=TenantLimits(**own),  # a later release may have others
    )
