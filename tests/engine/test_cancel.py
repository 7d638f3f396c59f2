"""Cancelling: wins or loses in one step, and says which."""

import asyncio

import pytest

from fakes import Clock, FakeProvider, a_request
from fleek.domain.errors import Conflict
from fleek.domain.job import Status
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.recover import Recovery
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.watch import Watch
from fleek.providers.base import Failed
from fleek.store import attempts, events, jobs

STOPPED = Failed("prediction_cancelled", "stopped", retryable=False)


async def test_a_pending_job_is_cancelled_and_never_started(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Nothing was bought, nothing will be."""
    job = await submit(rt, a_request())

    cancelled, won = await cancel(rt, job.id, tenant_id="default")
    await start(rt, job.id)

    assert (cancelled.status, won) == (Status.CANCELLED, True)
    assert provider.started == []


async def test_a_second_cancel_changes_nothing(rt: Runtime) -> None:
    """It is what the caller wanted: no error."""
    job = await submit(rt, a_request())
    await cancel(rt, job.id, tenant_id="default")

    again, won = await cancel(rt, job.id, tenant_id="default")

    assert (again.status, won) == (Status.CANCELLED, False)
    assert len(await events.of_job(rt.db, job.id)) == 2


async def test_a_completed_job_cannot_be_cancelled(rt: Runtime, provider: FakeProvider) -> None:
    """Terminal is final."""
    provider.at_once = True
    job = await submit(rt, a_request())
    await start(rt, job.id)
    await collect(rt, job.id)

    with pytest.raises(Conflict) as refused:
        await cancel(rt, job.id, tenant_id="default")

    assert refused.value.code == "already_ended"


async def test_a_cancel_reaches_the_provider_until_it_has_stopped(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """One request may get lost; the wish is in the database."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)
    watch, recovery = Watch(rt), Recovery(rt)
    await cancel(rt, job.id, tenant_id="default")
    for _ in range(3):
        await recovery.turn()
    assert len(provider.cancelled) == 3

    provider.outcome = STOPPED
    clock.tick(seconds=1)
    await watch.turn()
    await recovery.turn()

    assert len(provider.cancelled) == 3
    assert await attempts.owed(rt.db, limit=9) == []


async def test_either_the_cancel_or_the_completion_wins(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Both at once, many times: exactly one terminal state, and the answer tells which."""
    provider.at_once = True
    made = [await submit(rt, a_request()) for _ in range(20)]
    for job in made:
        await start(rt, job.id)

    async def try_cancel(number: int) -> bool:
        for _ in range(number * 3):  # each a little later than the one before
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
        ended = (await jobs.peek(rt.db, job.id)).status
        assert ended is (Status.CANCELLED if won else Status.COMPLETED)
        seen = [event.type for event in await events.of_job(rt.db, job.id)]
        assert (seen.count("completed"), seen.count("cancelled")) == (not won, won)
