"""Giving up what a removed provider is owed: honest, and final unless it turns up after all."""

from dataclasses import replace

from backing_services import both_databases
from fakes import Clock, FakeProvider, a_request
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import OutcomeUnknown
from fleek.domain.job import Job, PredictionId, Stage, Status
from fleek.engine.cancel import cancel
from fleek.engine.purge import Retention, purge
from fleek.engine.reconcile import abandon
from fleek.engine.runtime import Runtime
from fleek.engine.start import bind, start
from fleek.engine.submit import submit
from fleek.providers.base import Prediction
from fleek.store import attempts, jobs


async def left_behind(rt: Runtime, provider: FakeProvider) -> tuple[Job, Job, Job]:
    """Return jobs of a provider: one lost, one that waits, and one cancelled with a debt."""
    provider.outcome, provider.starts = None, [OutcomeUnknown("reset")]
    made = [await submit(rt, a_request(provider="fake")) for _ in range(3)]
    for job in made:
        await start(rt, job.id)
    await cancel(replace(rt, providers={}), made[2].id, tenant_id="default")
    await rt.cancels.tasks.finish(seconds=60)
    return made[0], made[1], made[2]


async def the_attempt(rt: Runtime, job: Job) -> Attempt:
    """Return a job's only attempt."""
    (attempt,) = await attempts.of_job(rt.db, job.id)
    return attempt


@both_databases
async def test_jobs_that_wait_for_it_fail_and_others_stay_as_they_ended(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Nobody knows what was paid for: that is what the caller is told."""
    made = await left_behind(rt, provider)
    other = await submit(rt, a_request())
    await start(rt, other.id)

    closed = await abandon(rt, "fake")

    assert closed == (3, 0)
    ended = [await jobs.get_any_tenant(rt.db, job.id) for job in made]
    assert [job.status for job in ended] == [Status.FAILED, Status.FAILED, Status.CANCELLED]
    assert [job.error and job.error.code for job in ended[:2]] == ["provider_outcome_unknown"] * 2
    assert {(await the_attempt(rt, job)).verdict for job in made} == {Verdict.LOST}
    assert (await jobs.get_any_tenant(rt.db, other.id)).stage is Stage.WAITING
    assert await attempts.count_without_verdict(rt.db) == {"placeholder": 1}


async def test_what_was_purged_is_finished_then(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A debt that nobody can pay keeps the purge waiting for ever."""
    _, _, owing = await left_behind(rt, provider)
    await purge(replace(rt, providers={}), owing.id, tenant_id="default")
    await Retention(rt).turn()
    assert (await jobs.get_any_tenant(rt.db, owing.id)).purging

    await abandon(rt, "fake")
    clock.tick(seconds=60)
    await Retention(rt).turn()

    assert not (await jobs.get_any_tenant(rt.db, owing.id)).purging


async def test_what_turns_up_after_all_is_stopped(rt: Runtime, provider: FakeProvider) -> None:
    """Its worker had other settings than the operator."""
    lost, _, _ = await left_behind(rt, provider)
    attempt = await the_attempt(rt, lost)
    await abandon(rt, "fake")

    await bind(rt, attempt, Prediction(id=PredictionId("late")))
    await rt.cancels.tasks.finish(seconds=60)

    assert provider.cancelled == ["late"]
    assert (await jobs.get_any_tenant(rt.db, lost.id)).status is Status.FAILED
