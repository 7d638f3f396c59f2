"""Cancellation: it succeeds or fails in one step, and the response says which."""

import asyncio

import pytest

from fakes import Clock, FakeProvider, a_request
from fleek.domain.attempt import Verdict
from fleek.domain.errors import Conflict
from fleek.domain.job import Status
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.recover import ProviderRecovery, Recovery
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.watch import Watch
from fleek.providers.base import Failed
from fleek.store import attempts, events, jobs
from recovering import Recovering

STOPPED = Failed("prediction_cancelled", "stopped", retryable=False)


async def test_a_pending_job_is_cancelled_and_never_started(
    rt: Runtime, provider: FakeProvider
) -> None:
    """No prediction has been created, and none will be."""
    job = await submit(rt, a_request())

    cancelled, won = await cancel(rt, job.id, tenant_id="default")
    await start(rt, job.id)

    assert (cancelled.status, won) == (Status.CANCELLED, True)
    assert provider.started == []


async def test_a_second_cancel_changes_nothing(rt: Runtime) -> None:
    """The job is cancelled, as requested: this is no error."""
    job = await submit(rt, a_request())
    await cancel(rt, job.id, tenant_id="default")

    again, won = await cancel(rt, job.id, tenant_id="default")

    assert (again.status, won) == (Status.CANCELLED, False)
    assert len(await events.of_job(rt.db, job.id)) == 2


async def test_a_completed_job_cannot_be_cancelled(rt: Runtime, provider: FakeProvider) -> None:
    """Terminal states are final."""
    provider.at_once = True
    job = await submit(rt, a_request())
    await start(rt, job.id)
    await collect(rt, job.id)

    with pytest.raises(Conflict) as refused:
        await cancel(rt, job.id, tenant_id="default")

    assert refused.value.code == "already_ended"


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_cancellation_is_repeated_until_the_prediction_has_ended(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The request may be lost, so it is stored and repeated at growing intervals."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)
    watch, recovery = Watch(rt), Recovering(rt)
    await cancel(rt, job.id, tenant_id="default")
    for _ in range(100):
        await recovery.turn()
        clock.tick(seconds=1)
    assert 4 <= len(provider.cancelled) <= 8

    asked = len(provider.cancelled)
    provider.outcome = STOPPED
    await watch.turn()
    clock.tick(seconds=600)
    await recovery.turn()

    assert len(provider.cancelled) == asked
    assert await attempts.pending_cancels(rt.db, "placeholder", limit=9) == []


async def test_the_first_cancellation_needs_no_coordinator(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Each further second is paid for, so the process that accepts the cancellation sends it."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)

    await cancel(rt, job.id, tenant_id="default")
    await rt.cancels.tasks.finish(seconds=60)

    assert set(provider.cancelled) == set(provider.created)


async def test_a_cancellation_does_not_wait_for_the_provider(
    rt: Runtime, provider: FakeProvider
) -> None:
    """A hanging provider does not delay the caller, and one process at a time sends the request."""
    provider.outcome, provider.cancel_hold = None, asyncio.Event()
    job = await submit(rt, a_request())
    await start(rt, job.id)

    cancelled, _ = await cancel(rt, job.id, tenant_id="default")
    await Recovery(rt).turn()
    await ProviderRecovery(rt, "placeholder").cancel_turn()
    provider.cancel_hold.set()
    await rt.cancels.tasks.finish(seconds=60)

    assert cancelled.status is Status.CANCELLED
    assert len(provider.cancelled) == 1


async def test_a_confirmed_cancellation_is_checked_by_a_poll(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """One call cancels the prediction, and another one confirms that it has ended."""
    provider.outcome, provider.cancel_confirms = STOPPED, True
    job = await submit(rt, a_request())
    await start(rt, job.id)

    await cancel(rt, job.id, tenant_id="default")
    await turns(rt, clock, 10)

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert (attempt.verdict, len(provider.cancelled)) == (Verdict.CANCELLED, 1)


async def test_a_false_confirmation_does_not_end_a_prediction(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The provider says "cancelled" and the prediction runs on: the request is repeated."""
    provider.outcome, provider.cancel_confirms = None, True
    job = await submit(rt, a_request())
    await start(rt, job.id)

    await cancel(rt, job.id, tenant_id="default")
    await turns(rt, clock, 10)

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is None
    assert len(provider.cancelled) > 1


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_hundred_concurrent_cancellations_make_a_hundred_calls(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """None waits for a turn of the coordinator, and none is sent twice."""
    provider.outcome, provider.cancel_confirms = STOPPED, True
    made = [await submit(rt, a_request()) for _ in range(100)]
    await asyncio.gather(*(start(rt, job.id) for job in made))

    await asyncio.gather(*(cancel(rt, job.id, tenant_id="default") for job in made))
    await rt.cancels.tasks.finish(seconds=60)

    assert sorted(provider.cancelled) == sorted(provider.created)
    assert await attempts.count_without_verdict(rt.db) == {}
    await turns(rt, clock, 2)
    assert len(provider.cancelled) == 100


async def turns(rt: Runtime, clock: Clock, number: int) -> None:
    """Run a number of recovery turns of one coordinator, five seconds apart."""
    recovering = Recovering(rt)
    for _ in range(number):
        await recovering.turn()
        clock.tick(seconds=5)
        await rt.lease.beat()


async def test_either_the_cancellation_or_the_completion_wins(
    rt: Runtime, provider: FakeProvider
) -> None:
    """There is exactly one terminal state, and the response names it."""
    provider.at_once = True
    made = [await submit(rt, a_request()) for _ in range(20)]
    for job in made:
        await start(rt, job.id)

    async def try_cancel(number: int) -> bool:
        for _ in range(number * 3):  # each one a little later
            await asyncio.sleep(0)
        try:
            return (await cancel(rt, made[number].id, tenant_id="default"))[1]
        except Conflict:
            return False

    answers = await asyncio.gather(
        *(try_cancel(number) for number in range(len(made))),
        *(collect(rt, job.id) for job in made),
    )

    for job, won in zip(made, answers, strict=False):
        ended = (await jobs.get_any_tenant(rt.db, job.id)).status
        assert ended is (Status.CANCELLED if won else Status.COMPLETED)
        seen = [event.type for event in await events.of_job(rt.db, job.id)]
        assert (seen.count("completed"), seen.count("cancelled")) == (not won, won)
