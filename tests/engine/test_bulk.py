"""Bulk operations: accepted at once, completed after any crash, and applied once per job."""

import asyncio
from collections.abc import Generator, Sequence
from datetime import timedelta
from typing import Any, Final

import pytest
from uuid_utils.compat import uuid7

from backing_services import both_databases
from fakes import a_request
from fleek import failpoints
from fleek.domain.errors import Conflict, DatabaseUnavailable, NotFound
from fleek.domain.job import Job, JobFilter, JobId, Status
from fleek.engine.bulk import IDLE, BulkOperations, accept
from fleek.engine.cancel import cancel
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.store import bulk, jobs, listing
from fleek.store.bulk import MOST_OPEN, BulkAction, BulkOperation

pytestmark = both_databases

PENDING: Final = JobFilter(statuses=frozenset({Status.PENDING}))


@pytest.fixture
def _disarmed() -> Generator[None]:
    """Leave no failpoint armed for the next test."""
    yield
    failpoints.arm("")


async def submitted(rt: Runtime, count: int, **fields: Any) -> list[Job]:
    """Submit a number of jobs."""
    return await asyncio.gather(*(submit(rt, a_request(**fields)) for _ in range(count)))


async def done(rt: Runtime, operation: BulkOperation) -> BulkOperation:
    """Take turns until nothing is left to do, and return the operation."""
    turns = BulkOperations(rt)
    while await turns.turn() < IDLE:
        pass
    return await bulk.get(rt.db, operation.id, tenant_id=operation.tenant_id)


async def statuses(rt: Runtime, made: Sequence[Job]) -> set[Status]:
    """Return the statuses of these jobs."""
    return {(await jobs.get_any_tenant(rt.db, job.id)).status for job in made}


def counts(operation: BulkOperation) -> tuple[int, int, int]:
    """Return the counters of the operation."""
    return operation.changed, operation.skipped, operation.failed


async def test_all_jobs_of_a_filter_are_cancelled(rt: Runtime) -> None:
    """Pages follow each other, and jobs outside the filter or of other tenants stay."""
    wanted = await submitted(rt, 130, tags=("sea",))
    others = [*await submitted(rt, 1), *await submitted(rt, 1, tags=("sea",), tenant_id="other")]

    operation = await accept(
        rt, BulkAction.CANCEL, tenant_id="default", wanted=JobFilter(tag="sea")
    )
    accepted = await statuses(rt, wanted)
    ended = await done(rt, operation)

    assert (operation.matched, accepted) == (130, {Status.PENDING})
    assert counts(ended) == (130, 0, 0)
    assert ended.ended_at is not None
    assert await statuses(rt, wanted) == {Status.CANCELLED}
    assert await statuses(rt, others) == {Status.PENDING}


async def test_jobs_are_cancelled_by_their_ids(rt: Runtime) -> None:
    """Ended, unknown and foreign jobs are skipped alike."""
    made = await submitted(rt, 101)
    await cancel(rt, made[0].id, tenant_id="default")
    foreign = await submit(rt, a_request(tenant_id="other"))
    ids = [*(job.id for job in made), made[1].id, foreign.id, JobId(uuid7())]

    ended = await done(rt, await accept(rt, BulkAction.CANCEL, tenant_id="default", ids=ids))

    assert (ended.matched, counts(ended)) == (103, (100, 3, 0))
    assert await statuses(rt, [foreign]) == {Status.PENDING}


async def test_a_bulk_retry_creates_one_job_for_each(rt: Runtime) -> None:
    """A second retry of the same jobs creates none, and new jobs are not retried."""
    made = await submitted(rt, 3)
    for job in made:
        await cancel(rt, job.id, tenant_id="default")
    wanted = JobFilter(statuses=frozenset({Status.CANCELLED}))

    first = await accept(rt, BulkAction.RETRY, tenant_id="default", wanted=wanted)
    second = await accept(rt, BulkAction.RETRY, tenant_id="default", wanted=wanted)
    ended = [await done(rt, operation) for operation in (first, second)]

    assert [counts(operation) for operation in ended] == [(3, 0, 0), (0, 3, 0)]
    assert await listing.count(rt.db, JobFilter(), tenant_id="default") == 6


async def test_a_bulk_retry_skips_cancelled_jobs_by_default(rt: Runtime) -> None:
    """Retrying everything does not undo a cancellation, unless the filter names the status."""
    made = await submitted(rt, 2)
    await done(rt, await accept(rt, BulkAction.CANCEL, tenant_id="default", wanted=JobFilter()))

    ended = await done(
        rt, await accept(rt, BulkAction.RETRY, tenant_id="default", wanted=JobFilter())
    )

    assert (ended.matched, counts(ended)) == (0, (0, 0, 0))
    assert await statuses(rt, made) == {Status.CANCELLED}


async def test_a_bulk_purge_includes_ended_jobs_only(rt: Runtime) -> None:
    """A running job is not cancelled as a side effect."""
    ended_job, living = await submitted(rt, 2)
    await cancel(rt, ended_job.id, tenant_id="default")

    ended = await done(
        rt, await accept(rt, BulkAction.PURGE, tenant_id="default", wanted=JobFilter())
    )

    assert counts(ended) == (1, 0, 0)
    assert (await jobs.get_any_tenant(rt.db, ended_job.id)).purged_at is not None
    assert await statuses(rt, [living]) == {Status.PENDING}


@pytest.mark.usefixtures("_disarmed")
async def test_an_accepted_operation_is_completed_after_a_crash(rt: Runtime) -> None:
    """A page that was done but not recorded is repeated, and no job changes twice."""
    made = await submitted(rt, 3)
    operation = await accept(rt, BulkAction.CANCEL, tenant_id="default", wanted=JobFilter())

    failpoints.arm("bulk.advance=dberror")
    with pytest.raises(DatabaseUnavailable):
        await BulkOperations(rt).turn()
    ended = await done(rt, operation)

    assert await statuses(rt, made) == {Status.CANCELLED}
    assert {job.version for job in [await jobs.get_any_tenant(rt.db, one.id) for one in made]} == {
        2
    }
    assert ended.ended_at is not None


@pytest.mark.usefixtures("_disarmed")
async def test_a_repeated_page_does_not_retry_a_job_twice(rt: Runtime) -> None:
    """The first retry may have ended by then, and a second one would be paid for."""
    (job,) = await submitted(rt, 1)
    await cancel(rt, job.id, tenant_id="default")
    operation = await accept(rt, BulkAction.RETRY, tenant_id="default", ids=[job.id])
    failpoints.arm("bulk.advance=dberror")
    with pytest.raises(DatabaseUnavailable):
        await BulkOperations(rt).turn()
    (new,) = (await listing.page(rt.db, PENDING, tenant_id="default", limit=9)).views
    await cancel(rt, new.job.id, tenant_id="default")

    ended = await done(rt, operation)

    assert counts(ended) == (0, 1, 0)
    assert await listing.count(rt.db, PENDING, tenant_id="default") == 0


async def test_a_late_coordinator_does_not_reset_the_progress(rt: Runtime) -> None:
    """Two coordinators may overlap for a moment, and the progress of the other one stays."""
    await submitted(rt, 1)
    operation = await accept(rt, BulkAction.CANCEL, tenant_id="default", wanted=JobFilter())
    ended = await done(rt, operation)

    await bulk.advance(rt.db, operation)

    assert await bulk.get(rt.db, operation.id, tenant_id="default") == ended


async def test_operations_take_turns(rt: Runtime) -> None:
    """A small operation does not wait for the end of a large one."""
    made = await submitted(rt, 201)
    ids = [job.id for job in made]
    large = await accept(rt, BulkAction.CANCEL, tenant_id="default", ids=ids)
    small = await accept(rt, BulkAction.CANCEL, tenant_id="other", ids=[JobId(uuid7())])
    turns = BulkOperations(rt)

    for _ in range(2):
        await turns.turn()

    assert (await bulk.get(rt.db, small.id, tenant_id="other")).ended_at is not None
    assert (await bulk.get(rt.db, large.id, tenant_id="default")).ended_at is None


async def test_open_operations_are_limited_per_tenant(rt: Runtime) -> None:
    """Each operation reads jobs, and the limit of one tenant does not affect another."""
    for _ in range(MOST_OPEN):
        await accept(rt, BulkAction.CANCEL, tenant_id="default", wanted=JobFilter())

    with pytest.raises(Conflict) as refused:
        await accept(rt, BulkAction.CANCEL, tenant_id="default", wanted=JobFilter())

    assert refused.value.code == "too_many_operations"
    await accept(rt, BulkAction.CANCEL, tenant_id="other", wanted=JobFilter())


async def test_ended_operations_are_removed_after_a_week(rt: Runtime, clock: Any) -> None:
    """Operations of other tenants are never visible."""
    operation = await accept(rt, BulkAction.CANCEL, tenant_id="default", wanted=JobFilter())
    with pytest.raises(NotFound):
        await bulk.get(rt.db, operation.id, tenant_id="other")
    await done(rt, operation)

    clock.tick(seconds=timedelta(days=8).total_seconds())
    await done(rt, await accept(rt, BulkAction.CANCEL, tenant_id="other", wanted=JobFilter()))

    with pytest.raises(NotFound):
        await bulk.get(rt.db, operation.id, tenant_id="default")
