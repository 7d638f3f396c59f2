"""Starting: one prediction per intent, whatever the provider responds."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from fakes import WELL, Clock, FakeProvider, a_request
from fleek.domain.attempt import Verdict
from fleek.domain.errors import (
    DatabaseUnavailable,
    OutcomeUnknown,
    ProviderRejected,
    ProviderUnavailable,
    WorkerSuspended,
)
from fleek.domain.job import PredictionId, Stage, Status
from fleek.engine.cancel import cancel
from fleek.engine.heartbeat import SUSPENDED_AFTER
from fleek.engine.runtime import Runtime
from fleek.engine.start import bind, carry_out, intend, start, start_prediction
from fleek.engine.submit import submit
from fleek.providers.base import Prediction
from fleek.store import attempts, events, jobs, updates
from recovering import Recovering


async def test_a_started_job_waits_without_a_worker(rt: Runtime, provider: FakeProvider) -> None:
    """Waiting is a row, not a task."""
    job = await submit(rt, a_request())

    await start(rt, job.id)

    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert (waiting.stage, waiting.worker_id) == (Stage.WAITING, None)
    assert waiting.prediction_id in provider.created


async def test_two_workers_start_a_job_once(
    rt: Runtime, provider: FakeProvider, second_worker: Callable[[], Runtime]
) -> None:
    """A dispatcher may deliver twice, and one claim wins."""
    job = await submit(rt, a_request())
    other = second_worker()
    await other.lease.register()

    await asyncio.gather(*(start(one, job.id) for one in (rt, other, rt, other)))

    assert [attempt.job_id for attempt in provider.started] == [job.id]


async def test_a_scheduled_job_is_not_started_early(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A dispatch may come early; the row contains the time."""
    job = await submit(rt, a_request(run_at=clock() + timedelta(hours=1)))

    await start(rt, job.id)

    assert provider.started == []
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.PENDING


async def test_the_intent_is_recorded_before_the_prediction(
    rt: Runtime, provider: FakeProvider
) -> None:
    """After a crash in between, the intent leads to the prediction."""
    job = await submit(rt, a_request())
    provider.hold = asyncio.Event()

    starting = asyncio.create_task(start(rt, job.id))
    while not provider.started:
        await asyncio.sleep(0)
    (intent,) = await attempts.of_job(rt.db, job.id)
    provider.hold.set()
    await starting

    assert (intent.prediction_id, intent.verdict, intent.number) == (None, None, 1)


class Clockless(FakeProvider):
    """A provider whose time can never be read."""

    time = None

    async def ask_time(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_provider_without_a_time_does_not_block_others(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Its time only serves to find lost predictions, and other providers do not need it."""
    rt = replace(rt, providers={**rt.providers, "hung": Clockless()})
    job = await submit(rt, a_request())

    async with asyncio.timeout(60):
        await start(rt, job.id)

    assert len(provider.started) == 1


async def test_a_start_without_a_prediction_is_not_counted(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A busy provider costs time, not attempts, and its Retry-After is the minimum."""
    wait = timedelta(minutes=5)
    provider.starts = [ProviderUnavailable("too many requests", retry_after=wait)]
    job = await submit(rt, a_request())

    await start(rt, job.id)

    deferred = await jobs.get_any_tenant(rt.db, job.id)
    assert (deferred.status, deferred.attempt, deferred.deferrals) == (Status.PENDING, 0, 1)
    assert deferred.retries == 0
    assert deferred.run_at >= clock() + wait
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is Verdict.NOT_CREATED


async def test_a_deferred_job_starts_under_a_new_number(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Each intent has its own row, though only one is counted."""
    provider.starts = [ProviderUnavailable("refused")]
    job = await submit(rt, a_request())
    await start(rt, job.id)
    clock.tick(minutes=2)

    await start(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).attempt == 1
    assert [attempt.number for attempt in await attempts.of_job(rt.db, job.id)] == [1, 2]


async def test_a_refused_job_fails_at_once(rt: Runtime, provider: FakeProvider) -> None:
    """No attempt is wasted on a request that can never succeed."""
    provider.starts = [ProviderRejected("no such version", code="unknown_version")]
    job = await submit(rt, a_request())

    await start(rt, job.id)

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.status is Status.FAILED
    assert failed.error is not None
    assert failed.error.code == "unknown_version"


async def test_an_exception_of_a_provider_leaves_an_unknown_outcome(
    rt: Runtime, provider: FakeProvider
) -> None:
    """A prediction may have been created before; the job is released."""
    provider.starts = [ZeroDivisionError("a mistake")]  # type: ignore[list-item]  # what no provider should raise
    job = await submit(rt, a_request())

    with pytest.raises(ZeroDivisionError):
        await start(rt, job.id)

    kept = await jobs.get_any_tenant(rt.db, job.id)
    assert (kept.stage, kept.worker_id) == (Stage.UNKNOWN, None)


async def test_an_unknown_outcome_is_kept_for_recovery(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Money may have been spent, so the attempt is neither repeated nor closed."""
    provider.starts = [OutcomeUnknown("no answer")]
    job = await submit(rt, a_request())

    await start(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is None


async def test_an_immediate_result_is_collected(rt: Runtime, provider: FakeProvider) -> None:
    """It is bound first, like any other."""
    provider.at_once = True
    job = await submit(rt, a_request())

    await start(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING
    seen = [event.type for event in await events.of_job(rt.db, job.id)]
    assert seen == ["submitted", "starting", "waiting", "predicted"]


async def test_a_worker_with_late_heartbeats_starts_no_prediction(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Another worker may be about to start it."""
    job = await submit(rt, a_request())
    rt.lease._last -= rt.lease.heartbeat.total_seconds() * SUSPENDED_AFTER + 1

    await start(rt, job.id)

    assert provider.started == []
    assert (await jobs.get_any_tenant(rt.db, job.id)).deferrals == 1


async def test_an_unregistered_process_cannot_claim(
    rt: Runtime, second_worker: Callable[[], Runtime]
) -> None:
    """The holder of a job must send heartbeats."""
    job = await submit(rt, a_request())

    with pytest.raises(WorkerSuspended):
        await start(second_worker(), job.id)


async def test_a_job_cancelled_during_its_start_cancels_its_prediction(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The prediction is bound although the job has ended."""
    job = await submit(rt, a_request())
    provider.hold = asyncio.Event()
    starting = asyncio.create_task(start(rt, job.id))
    while not provider.started:
        await asyncio.sleep(0)
    await cancel(rt, job.id, tenant_id="default")

    provider.hold.set()
    await starting

    (attempt,) = await attempts.pending_cancels(rt.db, "placeholder", limit=10)
    assert attempt.prediction_id in provider.created
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.CANCELLED


async def test_binding_twice_is_binding_once(rt: Runtime, provider: FakeProvider) -> None:
    """Reconciliation and a late worker may bind the same prediction."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.prediction_id is not None

    await bind(rt, attempt, Prediction(id=attempt.prediction_id))

    assert provider.cancelled == []
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING


async def test_a_prediction_that_ends_before_its_response_is_no_orphan(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Callbacks may report start and end while the response to the start is still under way."""
    job = await submit(rt, a_request())
    intended = await intend(rt, job.id)
    assert intended is not None
    _, attempt = intended
    ended = Prediction(id=PredictionId("quick"), outcome=WELL)
    await bind(rt, attempt, ended)

    await bind(rt, attempt, Prediction(id=ended.id))

    assert provider.cancelled == []
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING


async def test_a_second_prediction_for_one_attempt_is_cancelled(
    rt: Runtime, provider: FakeProvider
) -> None:
    """A job never has two running predictions."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    (attempt,) = await attempts.of_job(rt.db, job.id)

    await bind(rt, attempt, Prediction(id=PredictionId("another"), outcome=WELL))

    assert provider.cancelled == ["another"]
    assert (await jobs.get_any_tenant(rt.db, job.id)).prediction_id == attempt.prediction_id


async def test_a_prediction_of_a_closed_attempt_is_cancelled(
    rt: Runtime, provider: FakeProvider
) -> None:
    """A suspended worker resumes after its attempt was closed."""
    job = await submit(rt, a_request())
    intended = await intend(rt, job.id)
    assert intended is not None
    _, attempt = intended
    provider.starts = [ProviderUnavailable("refused")]
    await carry_out(rt, *intended)

    await bind(rt, attempt, Prediction(id=PredictionId("late")))
    await rt.cancels.tasks.finish(seconds=60)

    assert provider.cancelled == ["late"]
    (found,) = await attempts.of_job(rt.db, job.id)
    assert (found.prediction_id, found.verdict, found.cancel_owed) == ("late", None, True)


async def test_a_job_waits_for_the_setting_of_its_provider(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The setting may come back; the deadline limits the wait."""
    job = await submit(rt, a_request(provider="fake"))
    assert isinstance(rt.providers, dict)
    del rt.providers["fake"]

    await start(rt, job.id)

    assert provider.started == []
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.PENDING


async def test_a_start_longer_than_the_shutdown_is_found_and_is_no_crash(
    rt: Runtime, provider: FakeProvider, second_worker: Callable[[], Runtime]
) -> None:
    """The provider takes longer than a process may wait after SIGTERM."""
    provider.reconcile_by, provider.hold = "find", asyncio.Event()
    job = await submit(rt, a_request())
    starting = asyncio.create_task(start(rt, job.id))
    while not provider.created:
        await asyncio.sleep(0)

    await rt.shielded.finish(seconds=0)
    await asyncio.gather(starting, return_exceptions=True)
    await rt.lease.end()

    unknown = await jobs.get_any_tenant(rt.db, job.id)
    assert (unknown.stage, unknown.crashes, unknown.worker_id) == (Stage.UNKNOWN, 0, None)
    successor = second_worker()
    await successor.lease.register()
    await Recovering(successor).turn()
    found = await jobs.get_any_tenant(rt.db, job.id)
    assert (found.stage, found.attempt, found.crashes) == (Stage.WAITING, 1, 0)
    assert len(provider.started) == 1


async def test_stopping_the_worker_does_not_interrupt_a_start(
    rt: Runtime, provider: FakeProvider
) -> None:
    """SIGTERM between the response and the binding would cost a search."""
    job = await submit(rt, a_request())
    provider.hold = asyncio.Event()
    starting = asyncio.create_task(start(rt, job.id))
    while not provider.started:
        await asyncio.sleep(0)

    starting.cancel()
    provider.hold.set()
    await rt.shielded.finish(seconds=60)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING


async def test_stopping_the_worker_leaves_no_intent_behind(
    rt: Runtime, provider: FakeProvider
) -> None:
    """An intent committed during SIGTERM and not carried out would count as a crash."""
    job = await submit(rt, a_request())
    deciding = asyncio.Event()

    def now() -> datetime:
        deciding.set()
        return rt.now()

    starting = asyncio.create_task(start(replace(rt, now=now), job.id))
    await deciding.wait()

    starting.cancel()
    await rt.shielded.finish(seconds=60)

    started = await jobs.get_any_tenant(rt.db, job.id)
    assert (started.stage, started.crashes) == (Stage.WAITING, 0)
    assert [one.job_id for one in provider.started] == [job.id]


async def test_a_suspended_worker_does_not_release_a_bound_attempt(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Recovery has bound the prediction during the suspension, and it runs."""
    job = await submit(rt, a_request())
    intended = await intend(rt, job.id)
    assert intended is not None
    _, attempt = intended
    await bind(rt, attempt, await start_prediction(rt, *intended))
    rt.lease._last -= rt.lease.heartbeat.total_seconds() * SUSPENDED_AFTER + 1

    await carry_out(rt, *intended)

    (kept,) = await attempts.of_job(rt.db, job.id)
    assert (kept.verdict, kept.prediction_id in provider.created) == (None, True)
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING


async def test_an_intent_stored_late_is_not_carried_out(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search for a lost prediction covers the time of the intent, and would miss it."""
    job = await submit(rt, a_request())
    real, answers = updates.apply, [False]

    async def lost(*args: object, **kwargs: object) -> object:
        applied: object = await real(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came
        if answers:
            answers.pop()
            clock.tick(minutes=10)
            raise DatabaseUnavailable("reset")
        return applied

    monkeypatch.setattr(updates, "apply", lost)
    monkeypatch.setattr("fleek.engine.apply.RETRY_SECONDS", (0.001,))
    monkeypatch.setattr(rt.lease, "check", lambda: None)  # its heartbeat has just succeeded again

    await start(rt, job.id)

    deferred = await jobs.get_any_tenant(rt.db, job.id)
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert provider.started == []
    assert (deferred.status, attempt.verdict) == (Status.PENDING, Verdict.NOT_CREATED)
