"""Recovery: after any crash a job ends once and is paid for once."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Literal

import pytest

from fakes import Clock, FakeProvider, a_request
from fleek.domain.attempt import Verdict
from fleek.domain.errors import (
    OutcomeUnknown,
    ProviderRejected,
    ProviderUnavailable,
    WorkerSuspended,
)
from fleek.domain.job import Job, JobId, Stage, Status
from fleek.engine.cancel import cancel
from fleek.engine.collect import _claim as claim_for_collecting
from fleek.engine.collect import collect
from fleek.engine.heartbeat import process_is_gone, process_space
from fleek.engine.loops import ShieldedTasks
from fleek.engine.paid import MISTAKES
from fleek.engine.recollect import recollect
from fleek.engine.reconcile import LOOKS
from fleek.engine.recover import GRACE_SECONDS, Recovery, expire_dead_workers
from fleek.engine.runtime import Runtime
from fleek.engine.start import intend, start, start_prediction
from fleek.engine.submit import submit
from fleek.store import attempts, events, jobs, workers
from recovering import Recovering

Another = Callable[[], Runtime]
ReconcileBy = Literal["repeat", "find", "none"]


async def crash_after_intent(rt: Runtime, second_worker: Another, *, creates: bool) -> Job:
    """Let another worker record its intent, perhaps create the prediction, and crash."""
    job = await submit(rt, a_request())
    victim = second_worker()
    await victim.lease.register()
    intended = await intend(victim, job.id)
    assert intended is not None
    if creates:
        await start_prediction(victim, *intended)
    return job


async def expire_others(rt: Runtime, clock: Clock) -> None:
    """Let time pass until workers without heartbeats expire, and recover with `rt`."""
    await expire_dead_workers(rt)
    clock.tick(seconds=rt.lease.dead_after.total_seconds() + 1)
    await rt.lease.beat()
    recovery = Recovering(rt)
    for _ in range(3):
        await recovery.turn()


@pytest.mark.parametrize("creates", [False, True], ids=["before buying", "after buying"])
async def test_a_crash_between_intent_and_bind_repeats_the_attempt(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another, *, creates: bool
) -> None:
    """The same attempt is started again, which is the same prediction."""
    job = await crash_after_intent(rt, second_worker, creates=creates)

    await expire_others(rt, clock)

    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert (waiting.stage, waiting.attempt, waiting.crashes) == (Stage.WAITING, 1, 1)
    assert len(provider.created) == 1
    seen = [event.type for event in await events.of_job(rt.db, job.id)]
    assert seen == ["submitted", "starting", "unknown", "repeating", "adopted"]


async def test_jobs_of_a_live_worker_are_not_released(
    rt: Runtime, clock: Clock, second_worker: Another
) -> None:
    """It may be slow, but it has sent heartbeats."""
    job = await crash_after_intent(rt, second_worker, creates=False)
    clock.tick(seconds=rt.lease.dead_after.total_seconds() - 1)

    await Recovering(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.STARTING


async def crash_while_collecting(rt: Runtime, job_id: JobId, second_worker: Another) -> None:
    """Let a worker claim a job for collecting and crash; `rt` is its coordinator."""
    victim = second_worker()
    await victim.lease.register()
    assert await claim_for_collecting(victim, job_id) is not None
    await workers.end(rt.db, [victim.lease.worker_id], now=rt.now())
    await Recovery(rt).turn()


@pytest.mark.parametrize("resigned", [False, True], ids=["crashed", "stopped"])
async def test_a_collection_of_a_crashed_worker_is_released(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another, *, resigned: bool
) -> None:
    """The outputs are paid for; a pause follows only if they may have caused the crash."""
    provider.at_once = True
    job = await submit(rt, a_request())
    await start(rt, job.id)
    victim = second_worker()
    await victim.lease.register()
    assert await claim_for_collecting(victim, job.id) is not None
    if resigned:
        await victim.lease.end()

    await expire_others(rt, clock)

    released = await jobs.get_any_tenant(rt.db, job.id)
    assert (released.stage, released.worker_id) == (Stage.COLLECTING, None)
    assert (released.run_at > rt.now()) is not resigned
    assert (released.error and released.error.code) == (None if resigned else "collecting_crashed")
    assert await workers.ended_holders(rt.db) == []


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_outputs_that_crash_workers_do_not_stop_the_service(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another
) -> None:
    """They are tried ever less often and not for ever, and a later release can collect them."""
    provider.at_once = True
    job = await submit(rt, a_request())
    await start(rt, job.id)
    pauses = []

    while True:
        await crash_while_collecting(rt, job.id, second_worker)
        after = await jobs.get_any_tenant(rt.db, job.id)
        if after.terminal:
            break
        pauses.append(after.run_at - rt.now())
        clock.tick(seconds=pauses[-1].total_seconds() + 120)
        assert len(pauses) < 100, "it crashes workers for ever"

    assert len(pauses) >= MISTAKES.tries - 1
    assert max(pauses) > 10 * min(pauses)
    assert after.error is not None
    assert (after.status, after.error.code) == (Status.FAILED, "collecting_crashed")
    await recollect(rt, job.id, tenant_id="default")
    await collect(rt, job.id)
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


@pytest.mark.parametrize("stage", [Stage.STARTING, Stage.COLLECTING])
async def test_a_claim_of_an_expired_worker_is_released(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another, stage: Stage
) -> None:
    """Its heartbeat was late, and a claim was in progress when the coordinator expired it."""
    provider.at_once = True
    job = await submit(rt, a_request())
    if stage is Stage.COLLECTING:
        await start(rt, job.id)
    late = second_worker()
    await late.lease.register()
    await expire_others(rt, clock)
    claim = intend if stage is Stage.STARTING else claim_for_collecting
    assert await claim(late, job.id) is not None

    await Recovery(rt).turn()

    released = await jobs.get_any_tenant(rt.db, job.id)
    assert released.worker_id is None
    assert released.stage is (Stage.UNKNOWN if stage is Stage.STARTING else Stage.COLLECTING)


@pytest.mark.parametrize("reconcile_by", ["find", "repeat"])
async def test_a_prediction_of_a_job_that_crashes_workers_is_adopted(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    second_worker: Another,
    reconcile_by: ReconcileBy,
) -> None:
    """It is paid for, and without the search it would never be cancelled."""
    provider.reconcile_by = reconcile_by
    rt = replace(rt, settings=rt.settings.model_copy(update={"max_worker_crashes": 1}))
    job = await crash_after_intent(rt, second_worker, creates=True)

    await expire_others(rt, clock)

    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert (waiting.stage, waiting.crashes) == (Stage.WAITING, 1)
    assert waiting.prediction_id in provider.created


async def test_a_job_that_crashes_workers_is_not_started_again(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another
) -> None:
    """Searches have shown that no prediction exists, and no further worker must crash."""
    provider.reconcile_by = "find"
    rt = replace(rt, settings=rt.settings.model_copy(update={"max_worker_crashes": 1}))
    job = await crash_after_intent(rt, second_worker, creates=False)
    await expire_others(rt, clock)
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN

    recovery = Recovering(rt)
    for _ in range(LOOKS):
        await recovery.turn()
        clock.tick(seconds=60)
        await rt.lease.beat()

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (Status.FAILED, "worker_crashed")
    assert provider.started == []
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is Verdict.NOT_CREATED


@pytest.mark.parametrize("cancelled", [False, True], ids=["wanted", "cancelled"])
async def test_a_repeat_that_crashes_workers_ends(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another, *, cancelled: bool
) -> None:
    """The attempt is written off after one repeat more than crashes are allowed."""
    rt = replace(rt, settings=rt.settings.model_copy(update={"max_worker_crashes": 2}))
    job = await crash_after_intent(rt, second_worker, creates=False)
    if cancelled:
        await cancel(rt, job.id, tenant_id="default")
    await expire_dead_workers(rt)
    clock.tick(seconds=rt.lease.dead_after.total_seconds() + 1)
    await rt.lease.beat()
    provider.hold = asyncio.Event()  # it never responds: the worker crashes while it waits

    async def lead_and_crash() -> bool:
        """Lead until the attempt is repeated, then crash; False if there is nothing to do."""
        victim = replace(second_worker(), settings=rt.settings, shielded=ShieldedTasks())
        await victim.lease.register()
        before = len(provider.started)
        leading = asyncio.create_task(Recovering(victim).turn())
        while len(provider.started) == before and not leading.done():
            await asyncio.sleep(0)
        repeated = len(provider.started) > before
        leading.cancel()
        dead.append(victim.shielded)
        await workers.end(rt.db, [victim.lease.worker_id], now=clock())
        await Recovery(rt).turn()
        clock.tick(minutes=10)
        await rt.lease.beat()
        return repeated

    dead: list[ShieldedTasks] = []
    await Recovery(rt).turn()
    repeats = 0
    while await lead_and_crash():
        repeats += 1
        assert repeats < 10, "it is repeated for ever"

    (attempt,) = await attempts.of_job(rt.db, job.id)
    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert attempt.verdict is Verdict.LOST
    assert ended.status is (Status.CANCELLED if cancelled else Status.FAILED)
    if not cancelled:
        assert ended.error is not None
        assert ended.error.code == "worker_crashed"
    for tasks in dead:
        await tasks.finish(seconds=0)


async def test_a_repeat_without_a_response_is_no_crash(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The provider is unavailable, and the worker is alive."""
    provider.starts = [OutcomeUnknown("reset"), *[OutcomeUnknown("again")] * 8]
    rt = replace(rt, settings=rt.settings.model_copy(update={"max_worker_crashes": 1}))
    job = await submit(rt, a_request())
    await start(rt, job.id)
    recovery = Recovering(rt)
    for _ in range(8):
        await recovery.turn()
        clock.tick(minutes=10)

    unknown = await jobs.get_any_tenant(rt.db, job.id)
    assert (unknown.stage, unknown.crashes, unknown.worker_id) == (Stage.UNKNOWN, 0, None)


async def test_a_worker_does_not_expire_itself(rt: Runtime, clock: Clock) -> None:
    """Its heartbeats may be late under load, but a worker that checks others is alive."""
    await expire_dead_workers(rt)
    clock.tick(seconds=rt.lease.dead_after.total_seconds() + 1)

    await expire_dead_workers(rt)

    assert [worker.id for worker in await workers.running(rt.db)] == [rt.lease.worker_id]


async def test_a_shutdown_during_a_start_is_no_crash(
    rt: Runtime, clock: Clock, second_worker: Another
) -> None:
    """The worker received SIGTERM and could not wait for the response."""
    job = await submit(rt, a_request())
    leaving = second_worker()
    await leaving.lease.register()
    assert await intend(leaving, job.id) is not None
    await leaving.lease.end()

    await expire_others(rt, clock)

    adopted = await jobs.get_any_tenant(rt.db, job.id)
    assert (adopted.stage, adopted.crashes, adopted.attempt) == (Stage.WAITING, 0, 1)


async def test_an_unknown_outcome_is_reconciled_by_repeating(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The worker is alive, but has recorded that it does not know the outcome."""
    provider.starts = [OutcomeUnknown("reset"), OutcomeUnknown("again"), ProviderUnavailable("-")]
    job = await submit(rt, a_request())
    await start(rt, job.id)
    recovery = Recovering(rt)
    for _ in range(2):
        await recovery.turn()
        assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN
        clock.tick(seconds=60)

    await recovery.turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING
    assert {attempt.id for attempt in provider.started} == {provider.started[0].id}


async def test_a_refused_repeat_fails_the_job(rt: Runtime, provider: FakeProvider) -> None:
    """The provider has no such prediction, and will not create one."""
    provider.starts = [OutcomeUnknown("reset"), ProviderRejected("no")]
    job = await submit(rt, a_request())
    await start(rt, job.id)

    await Recovering(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.FAILED


async def test_a_provider_without_reconciliation_is_not_called_again(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The job fails with the reason: money may be lost, but nothing is paid for twice."""
    provider.reconcile_by = "none"
    provider.starts = [OutcomeUnknown("reset")]
    job = await submit(rt, a_request())
    await start(rt, job.id)

    await Recovering(rt).turn()

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.error is not None
    assert failed.error.code == "provider_outcome_unknown"
    assert len(provider.started) == 1


async def test_an_attempt_of_an_ended_job_is_reconciled(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another
) -> None:
    """Cancelled during a crash: the prediction has to be cancelled, too."""
    job = await crash_after_intent(rt, second_worker, creates=True)
    await cancel(rt, job.id, tenant_id="default")

    await expire_others(rt, clock)

    assert provider.cancelled
    assert set(provider.cancelled) == set(provider.created)
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.CANCELLED


async def test_a_lost_attempt_of_an_ended_job_is_written_off(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another
) -> None:
    """There is no way to find its prediction."""
    provider.reconcile_by = "none"
    job = await crash_after_intent(rt, second_worker, creates=True)
    await cancel(rt, job.id, tenant_id="default")

    await expire_others(rt, clock)

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is Verdict.LOST
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.CANCELLED


async def test_an_attempt_of_an_unconfigured_provider_waits(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The operator may configure the provider again."""
    provider.starts = [OutcomeUnknown("reset")]
    job = await submit(rt, a_request(provider="fake"))
    await start(rt, job.id)
    assert isinstance(rt.providers, dict)
    del rt.providers["fake"]

    await Recovering(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN


@pytest.mark.parametrize("started", [False, True], ids=["pending", "waiting"])
async def test_an_overdue_job_fails(
    rt: Runtime, provider: FakeProvider, clock: Clock, *, started: bool
) -> None:
    """Its prediction is cancelled."""
    provider.outcome = None
    job = await submit(rt, a_request(deadline=timedelta(seconds=30)))
    if started:
        await start(rt, job.id)
    clock.tick(seconds=31)

    await Recovering(rt).turn()

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.error is not None
    assert failed.error.code == "deadline_exceeded"
    assert len(provider.cancelled) == started


async def test_a_paid_result_is_collected_after_the_deadline(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The result is paid for, so the job gets a little more time."""
    provider.at_once = True
    job = await submit(rt, a_request(deadline=timedelta(seconds=30)))
    await start(rt, job.id)
    clock.tick(seconds=31)

    await Recovering(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING


async def test_a_failed_cancellation_is_repeated(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The provider may be unavailable, or the process with the cancellation may have crashed."""
    provider.outcome, provider.cancel_error = None, ProviderUnavailable("no answer")
    job = await submit(rt, a_request())
    await start(rt, job.id)
    await cancel(rt, job.id, tenant_id="default")
    recovering = Recovering(rt)
    await recovering.turn()
    assert len(provider.cancelled) == 1

    clock.tick(seconds=GRACE_SECONDS)
    await recovering.turn()

    assert len(provider.cancelled) == 2


async def test_an_expired_worker_registers_under_a_new_id(
    rt: Runtime, clock: Clock, second_worker: Another
) -> None:
    """Expired ids never return, and their jobs are released."""
    frozen = second_worker()
    await frozen.lease.register()
    old = frozen.lease.worker_id
    await expire_others(rt, clock)

    await frozen.lease.beat()

    assert frozen.lease.worker_id != old
    frozen.lease.check()


async def test_a_stopping_worker_ends_its_lease(rt: Runtime, second_worker: Another) -> None:
    """Other processes need not wait for missed heartbeats."""
    leaving = second_worker()
    await leaving.lease.register()
    await leaving.lease.end()
    await leaving.lease.end()

    with pytest.raises(WorkerSuspended):
        leaving.lease.check()

    assert len(await workers.alive(rt.db, since=rt.now() - rt.lease.dead_after)) == 1


async def test_a_missing_process_expires_at_once(rt: Runtime, clock: Clock) -> None:
    """On the same machine the lease ends without delay after a kill -9."""
    vanished = workers.Worker(
        id=rt.lease.worker_id,
        host=process_space(),
        pid=2**22 + 1,  # above the largest pid of Linux
        version="0",
        slots=1,
        started_at=clock(),
        heartbeat_at=clock(),
    )

    assert process_is_gone(vanished)
    assert not process_is_gone(replace(vanished, host="elsewhere 1 2"))
    assert not process_is_gone(replace(vanished, pid=1))
