"""Limits of tenants, checked in the commit of the jobs that they concern.

What is there is counted, under a lock of the tenant until the commit: there is no counter that could
drift. Without a limit nothing is counted or locked.
"""

import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import Select, bindparam, func, select, text

from fleek.domain.job import TERMINAL, Status
from fleek.store import rows
from fleek.store.database import Database, Transaction
from fleek.store.tables import JobRow

LOCKS: Final = 1024  # few enough for PostgreSQL's lock table; two tenants may share one
LIVE_SPACE: Final = 0x666C6C  # ours, among the advisory locks of the database
RUNNING_SPACE: Final = 0x666C6D


def _count(statuses: Collection[Status]) -> Select[Any]:
    """Return the statement that counts the jobs of a tenant, up to its limit."""
    names = sorted(status.value for status in statuses)
    counted = select(JobRow.id).where(
        JobRow.tenant_id == bindparam("tenant_id"), JobRow.status.in_(names)
    )
    return select(func.count()).select_from(counted.limit(bindparam("most")).subquery())


COUNT_LIVE: Final = _count([status for status in Status if status not in TERMINAL])
COUNT_RUNNING: Final = _count([Status.PROCESSING])
COUNT_ALL_RUNNING: Final = (
    select(JobRow.tenant_id, func.count())
    .where(
        JobRow.tenant_id.in_(bindparam("tenants", expanding=True)),
        JobRow.status == Status.PROCESSING.value,
    )
    .group_by(JobRow.tenant_id)
)
LOCK_TENANTS: Final = text(
    "SELECT pg_advisory_xact_lock(:space, number) FROM unnest(CAST(:numbers AS integer[])) AS number"
)


async def free_places(tx: Transaction, limits: Mapping[str, int]) -> dict[str, int]:
    """Return how many jobs each tenant may add to those that have not ended, by its limit.

    Other transactions that ask for the same tenant wait until this one has ended.
    """
    return await _free(tx, COUNT_LIVE, limits, space=LIVE_SPACE)


async def free_starts(tx: Transaction, limits: Mapping[str, int]) -> dict[str, int]:
    """Return how many jobs of each tenant may be started besides those that run; see `free_places`."""
    return await _free(tx, COUNT_RUNNING, limits, space=RUNNING_SPACE)


async def _free(
    tx: Transaction, statement: Select[Any], limits: Mapping[str, int], *, space: int
) -> dict[str, int]:
    if tx.dialect.name == "postgresql":  # SQLite has one writer anyway
        numbers = sorted({zlib.crc32(tenant_id.encode()) % LOCKS for tenant_id in limits})
        await tx.execute(LOCK_TENANTS, {"space": space, "numbers": numbers})
    places: dict[str, int] = {}
    for tenant_id, most in limits.items():
        found = await tx.scalar(statement, {"tenant_id": tenant_id, "most": most})
        places[tenant_id] = most - (found or 0)
    return places


async def count_running(db: Database, tenants: Collection[str]) -> Counter[str]:
    """Return how many jobs of each of these tenants run now: for a preview, without any lock."""
    if not tenants:
        return Counter()
    async with db.read() as tx:
        found = await tx.execute(COUNT_ALL_RUNNING, {"tenants": rows.padded(sorted(tenants))})
        return Counter({tenant_id: int(number) for tenant_id, number in found})
