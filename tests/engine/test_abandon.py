"""`abandon`: what is left of a removed provider is closed, but a late prediction is cancelled."""

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
    """Return three jobs of a provider: outcome unknown, unknown, and cancelled with a debt."""
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
async def test_abandon_fails_unknown_jobs_and_leaves_ended_ones(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Whether they were paid for is unknown, and the error code says so."""
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


async def test_abandon_completes_a_pending_purge(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A cancellation that can never be sent would keep the purge waiting for ever."""
    _, _, owing = await left_behind(rt, provider)
    await purge(replace(rt, providers={}), owing.id, tenant_id="default")
    await Retention(rt).turn()
    assert (await jobs.get_any_tenant(rt.db, owing.id)).purging

    await abandon(rt, "fake")
    clock.tick(seconds=60)
    await Retention(rt).turn()

    assert not (await jobs.get_any_tenant(rt.db, owing.id)).purging


async def test_a_prediction_bound_after_abandon_is_cancelled(
    rt: Runtime, provider: FakeProvider
) -> None:
    """A worker may still have the setting that the operator has removed."""
    lost, _, _ = await left_behind(rt, provider)
    attempt = await the_attempt(rt, lost)
    await abandon(rt, "fake")

    await bind(rt, attempt, Prediction(id=PredictionId("late")))
    await rt.cancels.tasks.finish(seconds=60)

    assert provider.cancelled == ["late"]
    assert (await jobs.get_any_tenant(rt.db, lost.id)).status is Status.FAILED
