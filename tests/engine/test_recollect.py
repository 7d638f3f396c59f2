"""A paid result that could not be stored is collected again, and not paid for again."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from backing_services import both_databases
from fakes import WELL, Clock, FakeProvider, RecallingProvider, a_request
from fleek.domain.errors import Conflict, Gone, NotFound, OutputGone, OutputUnsafe, StorageError
from fleek.domain.job import Job, JobId, Stage, Status
from fleek.engine.admit import Admission
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.dispatches import Dispatches
from fleek.engine.purge import purge
from fleek.engine.recollect import recollect
from fleek.engine.recover import Recovery
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.watch import Watch
from fleek.providers.base import Failed, SupportsRecall
from fleek.store import events, jobs, queue
from fleek.store.counters import count_jobs

REFUSED = OutputUnsafe("its host is not allowed")


async def again(rt: Runtime, job_id: JobId) -> Job:
    """Collect a job's result again."""
    return await recollect(rt, job_id, tenant_id="default")


async def a_failed_job(rt: Runtime, provider: FakeProvider, **fields: Any) -> Job:
    """Submit a job whose prediction succeeds at once and whose output is refused."""
    provider.at_once = True
    provider.reads = [REFUSED]
    job = await submit(rt, a_request(**fields))
    await start(rt, job.id)
    await collect(rt, job.id)
    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.status is Status.FAILED
    return failed


@both_databases
async def test_a_refused_result_is_collected_again(rt: Runtime, provider: FakeProvider) -> None:
    """The operator has changed the limit, and the history shows both."""
    job = await a_failed_job(rt, provider)

    asked = await again(rt, job.id)
    await collect(rt, job.id)

    done = await jobs.get(rt.db, job.id, tenant_id="default")
    assert (asked.stage, asked.error, asked.completed_at) == (Stage.COLLECTING, None, None)
    assert (done.job.status, len(done.media)) == (Status.COMPLETED, 1)
    assert len(provider.started) == 1
    history = [event.type for event in await events.of_job(rt.db, job.id)]
    assert history[-5:] == ["collecting", "failed", "recollecting", "collecting", "completed"]
    tally = await count_jobs(rt.db, now=rt.now())
    assert (tally.by_status[Status.COMPLETED], tally.total) == (1, 1)


@both_databases
async def test_twenty_concurrent_requests_collect_a_result_once(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Later requests find it in progress or done."""
    job = await a_failed_job(rt, provider)

    asked = await asyncio.gather(*(again(rt, job.id) for _ in range(20)))
    await asyncio.gather(*(collect(rt, job.id) for _ in range(3)))
    after = await again(rt, job.id)

    history = [event.type for event in await events.of_job(rt.db, job.id)]
    assert {one.stage for one in asked} == {Stage.COLLECTING}
    assert history.count("recollecting") == 1
    assert history.count("completed") == 1
    assert after.status is Status.COMPLETED


@both_databases
async def test_a_retry_during_a_new_collection_is_not_paid_for(
    rt: Runtime, provider: FakeProvider
) -> None:
    """A concurrent retry has seen a failed job, but must not create a prediction."""
    job = await a_failed_job(rt, provider)
    another = await submit(rt, a_request())
    late = replace(another, id=JobId(uuid7()), retry_of=job.id)
    await again(rt, job.id)

    with pytest.raises(Conflict) as refused:
        await jobs.insert_retry(rt.db, late, again=True)

    assert refused.value.code == "not_retryable"


async def test_a_postponed_collection_is_tried_at_once(
    rt: Runtime, provider: FakeProvider
) -> None:
    """After the storage is repaired, operators need not wait for the next try."""
    provider.at_once = True
    provider.reads = [StorageError("away")]
    job = await submit(rt, a_request())
    await start(rt, job.id)
    await collect(rt, job.id)

    asked = await again(rt, job.id)

    assert asked.run_at == rt.now()


async def test_a_running_collection_is_not_interrupted(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The result is already being stored."""
    provider.at_once = True
    job = await submit(rt, a_request())
    await start(rt, job.id)
    before = await jobs.get_any_tenant(rt.db, job.id)

    assert await again(rt, job.id) == before


async def test_a_result_after_the_deadline_can_be_collected(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The job has ended, but its prediction was paid for."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)
    clock.tick(days=2)
    await Recovery(rt).turn()
    provider.outcome = WELL
    await Watch(rt).turn()

    await again(rt, job.id)
    await collect(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


@pytest.mark.parametrize("ended", ["pending", "failed", "cancelled"])
async def test_a_job_without_a_paid_result_cannot_be_collected(
    rt: Runtime, provider: FakeProvider, ended: str
) -> None:
    """The error says so, and nothing changes."""
    provider.outcome = Failed("prediction_failed", "never", retryable=False)
    provider.at_once = True
    job = await submit(rt, a_request())
    if ended == "failed":
        await start(rt, job.id)
    if ended == "cancelled":
        await cancel(rt, job.id, tenant_id="default")
    before = await jobs.get_any_tenant(rt.db, job.id)

    with pytest.raises(Conflict) as caught:
        await again(rt, job.id)

    assert caught.value.code == "nothing_to_collect"
    assert await jobs.get_any_tenant(rt.db, job.id) == before


async def test_a_result_removed_by_the_provider_cannot_be_collected(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The job has failed for this reason."""
    provider.at_once = True
    provider.reads = [OutputGone("deleted after an hour")]
    job = await submit(rt, a_request())
    await start(rt, job.id)
    await collect(rt, job.id)

    with pytest.raises(Gone):
        await again(rt, job.id)


async def test_a_result_removed_in_the_meantime_fails_the_job_again(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The reason is another one, and it is final."""
    job = await a_failed_job(rt, provider)
    provider.reads = [OutputGone("deleted after an hour")]

    await again(rt, job.id)
    await collect(rt, job.id)

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert (ended.status, ended.error and ended.error.code) == (Status.FAILED, "output_expired")
    with pytest.raises(Gone):
        await again(rt, job.id)


async def test_a_purged_job_stays_purged(rt: Runtime, provider: FakeProvider) -> None:
    """The caller was promised that the files are removed."""
    job = await a_failed_job(rt, provider)
    await purge(rt, job.id, tenant_id="default")

    with pytest.raises(Gone):
        await again(rt, job.id)


async def test_a_job_collected_again_can_be_cancelled(rt: Runtime, provider: FakeProvider) -> None:
    """A new collection does not take that right away."""
    job = await a_failed_job(rt, provider)
    await again(rt, job.id)
    await cancel(rt, job.id, tenant_id="default")

    await collect(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.CANCELLED
    with pytest.raises(Conflict):
        await again(rt, job.id)


async def test_a_foreign_job_is_not_found(rt: Runtime, provider: FakeProvider) -> None:
    """As with every operation."""
    job = await a_failed_job(rt, provider)

    with pytest.raises(NotFound):
        await recollect(rt, job.id, tenant_id="another")


async def test_the_error_of_a_job_mentions_the_new_collection(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Otherwise callers would pay for another prediction."""
    job = await a_failed_job(rt, provider)

    assert job.error is not None
    assert job.error.message == f"{REFUSED}. The result is paid for, and can be collected again"


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_postponed_results_do_not_block_others(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """They use at most a quarter of the slots, and a new result is collected at once."""
    provider.at_once = True
    waiting = [await submit(rt, a_request()) for _ in range(30)]
    for job in waiting:
        await start(rt, job.id)
        provider.reads = [StorageError("away")]
        await collect(rt, job.id)
    clock.tick(minutes=2)
    fresh = await submit(rt, a_request())
    await start(rt, fresh.id)
    sent: list[JobId] = []

    class Recording:
        async def enqueue(self, _task: str, job_id: JobId) -> None:
            sent.append(job_id)

    other = replace(rt, dispatcher=Recording(), collects=Dispatches("collect"))  # type: ignore[arg-type]  # all that it needs
    await Admission(other).turn()

    assert fresh.id in sent
    assert len(sent) == 1 + 1  # of four slots one


async def test_postponed_results_are_counted_by_reason(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """From the second try on: a first failure is often due to a file that is too new."""
    provider.at_once = True
    provider.reads = [StorageError("away"), StorageError("away")]
    job = await submit(rt, a_request())
    await start(rt, job.id)
    await collect(rt, job.id)
    first = await queue.postponed(rt.db)
    await collect(rt, job.id)

    assert first == {}
    assert await queue.postponed(rt.db) == {"storage_unavailable": 1}
    assert clock() == rt.now()


def test_the_fake_provider_implements_recall() -> None:
    """The fake matches the port."""
    assert isinstance(RecallingProvider(), SupportsRecall)
    assert not isinstance(FakeProvider(), SupportsRecall)
