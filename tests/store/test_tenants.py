"""Tenants are changed under a lock, with the entries of the audit log."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fleek.domain.audit import COMMAND_LINE, Action, AuditEntry, entry
from fleek.domain.errors import NotFound, TenantBusy
from fleek.domain.job import JobId, Status
from fleek.domain.tenant import Tenant, TenantLimits
from fleek.store import audit, jobs, tenants
from fleek.store.api_keys import INSERT_TENANT
from fleek.store.database import Database
from fleek.store.limits import Running, count_running
from fleek.store.updates import StartLimit, apply
from samples import NOON, a_job, claims

LINE = entry(Action.TENANT_LIMITED, "default", by=COMMAND_LINE, tenant_id="default", at=NOON)


@pytest.fixture
async def db(db: Database) -> Database:
    """Return a database with the default tenant, even if other tests have used it."""
    async with db.write() as tx:
        await tx.execute(INSERT_TENANT, {"id": "default", "at": NOON})
    return db


def limits(**given: int) -> tenants.Change:
    """Return a decision that changes limits of a tenant."""

    def decide(before: Tenant) -> tuple[Tenant, Sequence[AuditEntry]]:
        return replace(before, limits=replace(before.limits, **given)), [LINE]

    return decide


def disables(before: Tenant) -> tuple[Tenant, Sequence[AuditEntry]]:
    """Decide to disable a tenant."""
    return replace(before, disabled_at=NOON), [LINE]


def enables(before: Tenant) -> tuple[Tenant, Sequence[AuditEntry]]:
    """Decide to enable a tenant."""
    return replace(before, disabled_at=None), [LINE]


async def start(db: Database, job_id: JobId) -> bool:
    """Claim a job; False: its tenant may not start it."""
    try:
        await apply(db, job_id, claims(), start=StartLimit())
    except TenantBusy:
        return False
    return True


async def test_concurrent_changes_are_all_kept(db: Database) -> None:
    """Each decides on the result of the one before, and leaves an entry."""
    await asyncio.gather(
        tenants.change(db, "default", limits(max_live_jobs=5)),
        tenants.change(db, "default", limits(max_running=2)),
        tenants.change(db, "default", limits(rate_per_minute=0)),
        tenants.change(db, "default", disables),
    )

    found = await tenants.find(db, "default")

    assert found is not None
    assert found.limits == TenantLimits(max_live_jobs=5, max_running=2, rate_per_minute=0)
    assert found.disabled_at == NOON
    assert await tenants.list_tenants(db) == [found]
    assert await tenants.list_tenants(db, after="default") == []
    assert await tenants.number_disabled(db) == 1
    assert len(await audit.latest(db, limit=9)) == 4
    assert await audit.verify(db) == (4, None)


async def test_a_change_without_effect_is_not_logged(db: Database) -> None:
    """Neither is one of a missing tenant."""
    await tenants.change(db, "default", enables)
    with pytest.raises(NotFound):
        await tenants.change(db, "nobody", disables)

    assert await tenants.find(db, "nobody") is None
    assert await audit.latest(db, limit=9) == []


async def test_no_job_of_a_disabled_tenant_is_started(db: Database) -> None:
    """From the commit that disables it; all jobs exist when it is enabled."""
    mine, other = a_job(), a_job(tenant_id="other")
    for job in (mine, other):
        await jobs.insert_job(db, job)
    await tenants.change(db, "default", disables)

    started = [*await asyncio.gather(start(db, mine.id), start(db, other.id))]
    left = await jobs.get_any_tenant(db, mine.id)
    seen = await count_running(db, ["default", "other"], default=None)
    await tenants.change(db, "default", enables)

    assert started == [False, True]
    assert (left.status, left.version) == (Status.PENDING, mine.version)
    assert seen == {"default": Running(jobs=0, most=0)}
    assert await start(db, mine.id)


async def test_a_limit_of_the_tenant_replaces_the_setting(db: Database) -> None:
    """Lower or higher; without one, the setting counts."""
    await tenants.change(db, "default", limits(max_running=1))
    made = [a_job() for _ in range(3)]
    for job in made:
        await jobs.insert_job(db, job)

    started = [await start(db, job.id) for job in made]
    found = await count_running(db, ["default", "other"], default=7)

    assert started == [True, False, False]
    assert found == {"default": Running(1, 1), "other": Running(0, 7)}
