"""Recovering: whatever dies in between, the job ends once and is paid once."""

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
Settles = Literal["repeat", "find", "none"]


async def die_after_intent(rt: Runtime, second_worker: Another, *, buys: bool) -> Job:
    """Let another worker write its intent, perhaps buy, and then be silent for ever."""
    job = await submit(rt, a_request())
    victim = second_worker()
    await victim.lease.register()
    intended = await intend(victim, job.id)
    assert intended is not None
    if buys:
        await start_prediction(victim, *intended)
    return job


async def survive(rt: Runtime, clock: Clock) -> None:
    """Let so much time pass that the silent are dead, while `rt` goes on living and sees it."""
    await expire_dead_workers(rt)
    clock.tick(seconds=rt.lease.dead_after.total_seconds() + 1)
    await rt.lease.beat()
    recovery = Recovering(rt)
    for _ in range(3):
        await recovery.turn()


@pytest.mark.parametrize("buys", [False, True], ids=["before buying", "after buying"])
async def test_a_worker_dies_between_intent_and_bind(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another, *, buys: bool
) -> None:
    """The same attempt is started again, which is the same purchase."""
    job = await die_after_intent(rt, second_worker, buys=buys)

    await survive(rt, clock)

    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert (waiting.stage, waiting.attempt, waiting.crashes) == (Stage.WAITING, 1, 1)
    assert len(provider.sold) == 1
    seen = [event.type for event in await events.of_job(rt.db, job.id)]
    assert seen == ["submitted", "starting", "unknown", "repeating", "adopted"]


async def test_nothing_is_taken_from_a_living_worker(
    rt: Runtime, clock: Clock, second_worker: Another
) -> None:
    """It may be slow, but it said that it is alive."""
    job = await die_after_intent(rt, second_worker, buys=False)
    clock.tick(seconds=rt.lease.dead_after.total_seconds() - 1)

    await Recovering(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.STARTING


async def die_while_collecting(rt: Runtime, job_id: JobId, second_worker: Another) -> None:
    """Let a worker claim a job for collecting, and crash; its coordinator is ours."""
    victim = second_worker()
    await victim.lease.register()
    assert await claim_for_collecting(victim, job_id) is not None
    await workers.end(rt.db, [victim.lease.worker_id], now=rt.now())
    await Recovery(rt).turn()


@pytest.mark.parametrize("resigned", [False, True], ids=["crashed", "stopped"])
async def test_a_dead_worker_s_collect_is_given_to_another(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another, *, resigned: bool
) -> None:
    """The outputs are paid for; a pause follows only if they may be what it has died of."""
    provider.at_once = True
    job = await submit(rt, a_request())
    await start(rt, job.id)
    victim = second_worker()
    await victim.lease.register()
    assert await claim_for_collecting(victim, job.id) is not None
    if resigned:
        await victim.lease.end()

    await survive(rt, clock)

    released = await jobs.get_any_tenant(rt.db, job.id)
    assert (released.stage, released.worker_id) == (Stage.COLLECTING, None)
    assert (released.run_at > rt.now()) is not resigned
    assert (released.error and released.error.code) == (None if resigned else "collecting_crashed")
    assert await workers.ended_holders(rt.db) == []


async def test_outputs_that_crash_each_worker_let_the_service_live(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another
) -> None:
    """Ever more seldom, and not for ever; what is paid for can be collected by a better release."""
    provider.at_once = True
    job = await submit(rt, a_request())
    await start(rt, job.id)
    pauses = []

    while True:
        await die_while_collecting(rt, job.id, second_worker)
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
async def test_what_a_worker_claims_after_its_end_is_taken_back(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another, stage: Stage
) -> None:
    """Its heartbeat was late, and a claim was under way when the coordinator ended the worker."""
    provider.at_once = True
    job = await submit(rt, a_request())
    if stage is Stage.COLLECTING:
        await start(rt, job.id)
    late = second_worker()
    await late.lease.register()
    await survive(rt, clock)
    claim = intend if stage is Stage.STARTING else claim_for_collecting
    assert await claim(late, job.id) is not None

    await Recovery(rt).turn()

    released = await jobs.get_any_tenant(rt.db, job.id)
    assert released.worker_id is None
    assert released.stage is (Stage.UNKNOWN if stage is Stage.STARTING else Stage.COLLECTING)


@pytest.mark.parametrize("reconcile_by", ["find", "repeat"])
async def test_what_a_job_that_kills_its_workers_bought_is_adopted(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    second_worker: Another,
    reconcile_by: Settles,
) -> None:
    """It was looked for first: the prediction is paid for, and nobody else would stop it."""
    provider.reconcile_by = reconcile_by
    rt = replace(rt, settings=rt.settings.model_copy(update={"max_worker_crashes": 1}))
    job = await die_after_intent(rt, second_worker, buys=True)

    await survive(rt, clock)

    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert (waiting.stage, waiting.crashes) == (Stage.WAITING, 1)
    assert waiting.prediction_id in provider.sold


async def test_a_job_that_kills_its_workers_is_not_started_again(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another
) -> None:
    """It must not take down one worker after the other; that nothing was bought has been seen."""
    provider.reconcile_by = "find"
    rt = replace(rt, settings=rt.settings.model_copy(update={"max_worker_crashes": 1}))
    job = await die_after_intent(rt, second_worker, buys=False)
    await survive(rt, clock)
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN

    recovery = Recovering(rt)
    for _ in range(LOOKS):
        await recovery.turn()
        clock.tick(seconds=60)
        await rt.lease.beat()

    parked = await jobs.get_any_tenant(rt.db, job.id)
    assert parked.error is not None
    assert (parked.status, parked.error.code) == (Status.FAILED, "worker_crashed")
    assert provider.started == []
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is Verdict.NOT_CREATED


@pytest.mark.parametrize("cancelled", [False, True], ids=["wanted", "cancelled"])
async def test_a_repeat_that_kills_each_worker_ends(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another, *, cancelled: bool
) -> None:
    """The attempt is written off after one look more than crashes are allowed."""
    rt = replace(rt, settings=rt.settings.model_copy(update={"max_worker_crashes": 2}))
    job = await die_after_intent(rt, second_worker, buys=False)
    if cancelled:
        await cancel(rt, job.id, tenant_id="default")
    await expire_dead_workers(rt)
    clock.tick(seconds=rt.lease.dead_after.total_seconds() + 1)
    await rt.lease.beat()
    provider.hold = asyncio.Event()  # it never answers: the worker dies while it waits

    async def lead_and_die() -> bool:
        """Lead until the attempt is started again, then die; False if there is nothing to do."""
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
    while await lead_and_die():
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


async def test_a_repeat_that_gives_no_answer_is_no_crash(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The provider is away, and the worker lives."""
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
    """A loaded machine delays its heartbeats; that it looks for dead workers shows that it lives."""
    await expire_dead_workers(rt)
    clock.tick(seconds=rt.lease.dead_after.total_seconds() + 1)

    await expire_dead_workers(rt)

    assert [worker.id for worker in await workers.running(rt.db)] == [rt.lease.worker_id]


async def test_a_worker_that_says_good_bye_is_no_crash(
    rt: Runtime, clock: Clock, second_worker: Another
) -> None:
    """It was told to stop while it bought, and could not wait for the answer."""
    job = await submit(rt, a_request())
    leaving = second_worker()
    await leaving.lease.register()
    assert await intend(leaving, job.id) is not None
    await leaving.lease.end()

    await survive(rt, clock)

    adopted = await jobs.get_any_tenant(rt.db, job.id)
    assert (adopted.stage, adopted.crashes, adopted.attempt) == (Stage.WAITING, 0, 1)


async def test_an_unknown_outcome_is_settled_by_repeating(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Though its worker lives: it has said that it does not know."""
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


async def test_a_repeat_that_is_refused_ends_the_job(rt: Runtime, provider: FakeProvider) -> None:
    """The provider knows of no purchase and wants none."""
    provider.starts = [OutcomeUnknown("reset"), ProviderRejected("no")]
    job = await submit(rt, a_request())
    await start(rt, job.id)

    await Recovering(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.FAILED


async def test_without_a_way_to_find_out_nothing_is_bought_again(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The job fails and says why: the money may be gone, but not twice."""
    provider.reconcile_by = "none"
    provider.starts = [OutcomeUnknown("reset")]
    job = await submit(rt, a_request())
    await start(rt, job.id)

    await Recovering(rt).turn()

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.error is not None
    assert failed.error.code == "provider_outcome_unknown"
    assert len(provider.started) == 1


async def test_an_attempt_of_an_ended_job_is_settled_too(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another
) -> None:
    """Cancelled while its worker died: what was bought must be stopped."""
    job = await die_after_intent(rt, second_worker, buys=True)
    await cancel(rt, job.id, tenant_id="default")

    await survive(rt, clock)

    assert provider.cancelled
    assert set(provider.cancelled) == set(provider.sold)
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.CANCELLED


async def test_a_lost_attempt_of_an_ended_job_is_written_off(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Another
) -> None:
    """There is no way to find it."""
    provider.reconcile_by = "none"
    job = await die_after_intent(rt, second_worker, buys=True)
    await cancel(rt, job.id, tenant_id="default")

    await survive(rt, clock)

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is Verdict.LOST
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.CANCELLED


async def test_an_attempt_of_a_provider_without_its_setting_waits(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The operator may configure it again."""
    provider.starts = [OutcomeUnknown("reset")]
    job = await submit(rt, a_request(provider="fake"))
    await start(rt, job.id)
    assert isinstance(rt.providers, dict)
    del rt.providers["fake"]

    await Recovering(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN


@pytest.mark.parametrize("started", [False, True], ids=["pending", "waiting"])
async def test_a_job_past_its_deadline_has_failed(
    rt: Runtime, provider: FakeProvider, clock: Clock, *, started: bool
) -> None:
    """And its prediction is stopped."""
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


async def test_what_is_paid_for_is_collected_after_the_deadline(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The caller has waited and we have paid: a little more patience."""
    provider.at_once = True
    job = await submit(rt, a_request(deadline=timedelta(seconds=30)))
    await start(rt, job.id)
    clock.tick(seconds=31)

    await Recovering(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING


async def test_a_cancel_that_fails_is_tried_again(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The provider may be away for a while, or the process that took the cancel has died."""
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


async def test_a_worker_taken_for_dead_starts_a_new_life(
    rt: Runtime, clock: Clock, second_worker: Another
) -> None:
    """Dead ids never return: what was held in their name is freed."""
    frozen = second_worker()
    await frozen.lease.register()
    old = frozen.lease.worker_id
    await survive(rt, clock)

    await frozen.lease.beat()

    assert frozen.lease.worker_id != old
    frozen.lease.check()


async def test_a_worker_that_stops_says_so(rt: Runtime, second_worker: Another) -> None:
    """Nobody waits for its silence to be noticed."""
    leaving = second_worker()
    await leaving.lease.register()
    await leaving.lease.end()
    await leaving.lease.end()

    with pytest.raises(WorkerSuspended):
        leaving.lease.check()

    assert len(await workers.alive(rt.db, since=rt.now() - rt.lease.dead_after)) == 1


async def test_a_process_that_is_not_there_any_more_is_dead_at_once(
    rt: Runtime, clock: Clock
) -> None:
    """On one machine nobody waits half a minute after a kill -9."""
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
