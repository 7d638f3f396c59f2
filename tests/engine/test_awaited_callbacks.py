"""A provider without a search: the callback of an attempt is the only proof of its prediction."""

from datetime import timedelta

import pytest

from fakes import AwaitingProvider, Clock, a_request
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import OutcomeUnknown
from fleek.domain.job import Job, Stage, Status
from fleek.engine.callback import receive
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.store import attempts, jobs
from recovering import Recovering

LIMIT = timedelta(minutes=10)


@pytest.fixture
def provider() -> AwaitingProvider:
    """Return a provider whose first response is lost."""
    return AwaitingProvider(limit=LIMIT, starts=[OutcomeUnknown("reset")])


async def lost(rt: Runtime) -> tuple[Job, Attempt]:
    """Return a job whose start has an unknown outcome."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    (attempt,) = await attempts.of_job(rt.db, job.id)
    return job, attempt


async def call(rt: Runtime, attempt: Attempt, name: str) -> None:
    """Send the provider's callback about an attempt."""

    async def read() -> bytes:
        return name.encode()

    headers = {"webhook-signature": "fake", "webhook-id": "msg_1"}
    token = f"{attempt.id}.{attempt.nonce}"
    await receive(rt, attempt.provider, token, headers=headers, read=read)


async def test_an_unknown_outcome_waits_for_its_callback(
    rt: Runtime, provider: AwaitingProvider, clock: Clock
) -> None:
    """It is written off only when the callback is overdue, and never started again."""
    job, attempt = await lost(rt)
    recovering = Recovering(rt)
    clock.tick(seconds=(LIMIT + rt.settings.reconcile_seconds).total_seconds() - 1)
    await recovering.turn()
    waits = await jobs.get_any_tenant(rt.db, job.id)
    clock.tick(seconds=120)
    await recovering.turn()

    ended = await jobs.get_any_tenant(rt.db, job.id)
    (closed,) = await attempts.of_job(rt.db, job.id)
    assert waits.stage is Stage.UNKNOWN
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (Status.FAILED, "provider_outcome_unknown")
    assert (closed.id, closed.verdict) == (attempt.id, Verdict.LOST)
    assert len(provider.started) == 1


async def test_an_intent_in_the_future_does_not_wait_for_that_time(
    rt: Runtime, clock: Clock
) -> None:
    """The clock was ahead when it was written, and was set back since."""
    job, _ = await lost(rt)
    clock.step(hours=-5)
    recovering = Recovering(rt)
    await recovering.turn()
    waits = await jobs.get_any_tenant(rt.db, job.id)
    clock.tick(seconds=(LIMIT + rt.settings.reconcile_seconds).total_seconds() + 60)
    await rt.lease.beat()
    await recovering.turn()

    assert waits.stage is Stage.UNKNOWN
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.FAILED


async def test_without_callbacks_an_unknown_outcome_is_written_off(
    rt: Runtime, provider: AwaitingProvider
) -> None:
    """There is nothing to wait for."""
    provider.limit = None
    job, _ = await lost(rt)

    await Recovering(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.FAILED


async def test_a_callback_binds_the_whole_id(rt: Runtime) -> None:
    """It names a part of it, as the rest is known from the attempt."""
    job, attempt = await lost(rt)

    await call(rt, attempt, "r-1")

    (bound,) = await attempts.of_job(rt.db, job.id)
    assert bound.prediction_id == f"{attempt.model}/r-1"
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING
