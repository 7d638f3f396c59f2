"""Limits of tenants, checked in the commit of the jobs that they concern.

What is there is counted, under a lock of the tenant until the commit: there is no counter that could
drift. Without a limit nothing is counted or locked.
"""

import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import bindparam, func, select, text

from fleek.domain.job import TERMINAL, Status
from fleek.domain.values import dataclass
from fleek.store import rows, tenants
from fleek.store.database import Reads, Transaction
from fleek.store.prepared import Query
from fleek.store.tables import JobRow

LOCKS: Final = 1024  # few enough for PostgreSQL's lock table; two tenants may share one
LIVE_SPACE: Final = 0x666C6C  # ours, among the advisory locks of the database
RUNNING_SPACE: Final = 0x666C6D
UPLOAD_SPACE: Final = 0x666C6E


def _count(statuses: Collection[Status]) -> Query[Any]:
    """Return the statement that counts the jobs of a tenant, up to its limit."""
    names = sorted(status.value for status in statuses)
    counted = select(JobRow.id).where(
        JobRow.tenant_id == bindparam("tenant_id"), JobRow.status.in_(names)
    )
    few = counted.limit(bindparam("most")).subquery()
    return Query(select(func.count()).select_from(few))


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
LOCK_TENANTS: Final = Query[Any](
    text(
        "SELECT pg_advisory_xact_lock(CAST(:space AS integer), number)"
        " FROM unnest(CAST(:numbers AS integer[])) AS number"
    )
)


async def free_places(tx: Transaction, limits: Mapping[str, int]) -> dict[str, int]:
    """Return how many jobs each tenant may add to those that have not ended, by its limit.

    Other transactions that ask for the same tenant wait until this one has ended.
    """
    return await _free(tx, COUNT_LIVE, limits, space=LIVE_SPACE)


async def free_starts(tx: Transaction, defaults: Mapping[str, int | None]) -> dict[str, int]:
    """Return how many jobs of each tenant with a limit may be started besides those that run.

    `defaults`: the limits of tenants without one of their own. See `free_places`.
    """
    limits = await _running_limits(tx, defaults)
    open_ones = {tenant_id: most for tenant_id, most in limits.items() if most}
    places = await _free(tx, COUNT_RUNNING, open_ones, space=RUNNING_SPACE) if open_ones else {}
    return dict.fromkeys(limits, 0) | places


async def _running_limits(tx: Transaction, defaults: Mapping[str, int | None]) -> dict[str, int]:
    """Return how many jobs of each tenant with a limit may run; 0 if it is disabled."""
    limits = dict(defaults)
    for tenant in (await tenants.read(tx, defaults.keys())).values():
        if not tenant.enabled:
            limits[tenant.id] = 0
        elif tenant.limits.max_running is not None:
            limits[tenant.id] = tenant.limits.max_running
    return {tenant_id: most for tenant_id, most in limits.items() if most is not None}


async def lock_tenant(tx: Transaction, tenant_id: str) -> None:
    """Let transactions that count the uploads of a tenant wait for the end of this one."""
    await _lock(tx, [tenant_id], UPLOAD_SPACE)


async def _lock(tx: Transaction, tenant_ids: Iterable[str], space: int) -> None:
    if tx.dialect.name == "postgresql":  # SQLite has one writer anyway
        numbers = sorted({zlib.crc32(tenant_id.encode()) % LOCKS for tenant_id in tenant_ids})
        await LOCK_TENANTS.rows(tx, space=space, numbers=numbers)


async def _free(
    tx: Transaction, counting: Query[Any], limits: Mapping[str, int], *, space: int
) -> dict[str, int]:
    await _lock(tx, limits, space)
    places: dict[str, int] = {}
    for tenant_id, most in limits.items():
        found = await counting.scalar(tx, tenant_id=tenant_id, most=most)
        places[tenant_id] = most - (found or 0)
    return places


@dataclass(frozen=True, slots=True)
class Running:
    """How many jobs of a tenant run, and how many may."""

    jobs: int
    most: int  # 0: it is disabled


async def count_running(
    db: Reads, tenant_ids: Collection[str], *, default: int | None
) -> dict[str, Running]:
    """Return how many jobs of those tenants run that have a limit: for a preview, without any lock.

    `default`: the limit of tenants without one of their own.
    """
    if not tenant_ids:
        return {}
    async with db.read(short=True) as tx:
        limits = await _running_limits(tx, dict.fromkeys(tenant_ids, default))
    if not limits:
        return {}
    async with db.read() as tx:
        found = await tx.execute(COUNT_ALL_RUNNING, {"tenants": rows.padded(sorted(limits))})
        numbers = {tenant_id: int(number) for tenant_id, number in found}
    return {name: Running(numbers.get(name, 0), most) for name, most in limits.items()}
