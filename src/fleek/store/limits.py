"""Limits of tenants, checked in the commit of the jobs that they concern.

What is there is counted, under a lock of the tenant until the commit: there is no counter that could
drift. Without a limit nothing is counted or locked.
"""

import zlib
from collections.abc import Mapping
from typing import Final

from sqlalchemy import bindparam, func, select, text

from fleek.domain.job import TERMINAL, Status
from fleek.store.database import Transaction
from fleek.store.tables import JobRow

LOCKS: Final = 1024  # few enough for PostgreSQL's lock table; two tenants may share one
LOCK_SPACE: Final = 0x666C6C  # ours, among the advisory locks of the database
LIVE: Final = sorted(status.value for status in Status if status not in TERMINAL)

COUNT_LIVE: Final = select(func.count()).select_from(
    select(JobRow.id)
    .where(JobRow.tenant_id == bindparam("tenant_id"), JobRow.status.in_(LIVE))
    .limit(bindparam("most"))
    .subquery()
)
LOCK_TENANTS: Final = text(
    f"SELECT pg_advisory_xact_lock({LOCK_SPACE}, number)"  # noqa: S608 - a constant
    " FROM unnest(CAST(:numbers AS integer[])) AS number"
)


async def free_places(tx: Transaction, limits: Mapping[str, int]) -> dict[str, int]:
    """Return how many jobs each tenant may add to those that have not ended, by its limit.

    Other transactions that ask for the same tenant wait until this one has ended.
    """
    if tx.dialect.name == "postgresql":  # SQLite has one writer anyway
        numbers = sorted({zlib.crc32(tenant_id.encode()) % LOCKS for tenant_id in limits})
        await tx.execute(LOCK_TENANTS, {"numbers": numbers})
    places: dict[str, int] = {}
    for tenant_id, most in limits.items():
        live = await tx.scalar(COUNT_LIVE, {"tenant_id": tenant_id, "most": most})
        places[tenant_id] = most - (live or 0)
    return places
