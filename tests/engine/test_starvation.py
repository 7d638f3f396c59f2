"""Failing work does not block other work, neither within a provider nor between two."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from backing_services import both_databases
from fakes import Clock, FakeProvider, a_request
from fleek.domain.attempt import Attempt
from fleek.domain.errors import OutcomeUnknown, ProviderUnavailable
from fleek.domain.job import Job, PredictionId, Stage, Status
from fleek.engine import backlog, recover
from fleek.engine.cancel import cancel
from fleek.engine.coordinator import coordinate
from fleek.engine.recover import ProviderRecovery, Recovery
from fleek.engine.runtime import Runtime
from fleek.engine.start import intend, record_unknown, start
from fleek.engine.submit import submit
from fleek.providers.base import Budget, Found, Prediction
from fleek.store import attempts, jobs, updates
from recovering import Recovering

MANY = 25  # more of one kind than a turn handles
LIMIT = 120  # seconds; only a failing test takes so long


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make few rows count as many."""
    monkeypatch.setattr(recover, "PAGE", 10)
    monkeypatch.setattr(backlog, "PAGE", 7)


@pytest.fixture
def broken() -> FakeProvider:
    """Return a provider that is to be unavailable or removed."""
    return FakeProvider(outcome=None)


@pytest.fixture
def both(rt: Runtime, provider: FakeProvider, broken: FakeProvider) -> Runtime:
    """Return a runtime with a working provider and a broken one."""
    provider.outcome = None
    return replace(rt, providers={"placeholder": provider, "broken": broken})


async def owe_cancels(rt: Runtime, provider: str, number: int) -> list[Job]:
    """Cancel a number of jobs with running predictions, without sending the first requests."""
    made = [await submit(rt, a_request(provider=provider)) for _ in range(number)]
    await asyncio.gather(*(start(rt, job.id) for job in made))
    silent = replace(rt, providers={})  # as after a crash behind the commit
    await asyncio.gather(*(cancel(silent, job.id, tenant_id="default") for job in made))
    await rt.cancels.tasks.finish(seconds=LIMIT)
    return made


async def lose_starts(rt: Runtime, provider: str, number: int) -> list[Job]:
    """Start a number of jobs whose responses are lost."""
    made = [await submit(rt, a_request(provider=provider)) for _ in range(number)]

    async def lose(job: Job) -> None:
        intended = await intend(rt, job.id)
        assert intended is not None
        await record_unknown(rt, intended[1], OutcomeUnknown("reset"))

    await asyncio.gather(*(lose(job) for job in made))
    return made


@both_databases
async def test_a_backlog_of_a_removed_provider_does_not_block_others(
    both: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """It is older, and longer than a turn, for cancellations and for searches."""
    await owe_cancels(both, "broken", MANY)
    await lose_starts(both, "broken", MANY)
    clock.tick(seconds=1)
    (stopped,) = await owe_cancels(both, "placeholder", 1)
    (lost,) = await lose_starts(both, "placeholder", 1)
    recovering = Recovering(replace(both, providers={"placeholder": provider}))

    await recovering.turn()
    clock.tick(seconds=recover.GRACE_SECONDS)
    await recovering.turn()

    (attempt,) = await attempts.of_job(both.db, stopped.id)
    assert provider.cancelled == [attempt.prediction_id]
    assert (await jobs.get_any_tenant(both.db, lost.id)).stage is Stage.WAITING


async def test_failing_cancellations_do_not_block_others_of_their_provider(
    both: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Those with the fewest tries go first."""
    hopeless = await owe_cancels(both, "placeholder", MANY)
    gone = {(await jobs.get_any_tenant(both.db, job.id)).prediction_id for job in hopeless}
    asked: list[PredictionId] = []

    async def stop(prediction_id: PredictionId) -> None:
        asked.append(prediction_id)
        if prediction_id in gone:
            raise ProviderUnavailable("there is no such prediction")

    provider.cancel = stop  # type: ignore[method-assign] # it records which
    recovering = Recovering(both)
    await recovering.turn()
    clock.tick(seconds=recover.GRACE_SECONDS)
    await recovering.turn()
    (job,) = await owe_cancels(both, "placeholder", 1)
    clock.tick(seconds=1)  # a long backlog is not read in each turn
    await recovering.turn()
    asked.clear()

    clock.tick(seconds=recover.GRACE_SECONDS)
    await recovering.turn()

    assert (await jobs.get_any_tenant(both.db, job.id)).prediction_id in asked


async def test_failing_searches_do_not_block_others_of_their_provider(
    both: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Their pauses grow."""
    provider.reconcile_by = "find"
    hopeless = await lose_starts(both, "placeholder", MANY)
    ids = {job.id for job in hopeless}
    find = provider.find

    async def look(job: Job, attempt: Attempt, **when: object) -> object:
        if job.id in ids:
            raise ProviderUnavailable("an error of the server")
        return await find(job, attempt, **when)  # type: ignore[arg-type] # passed on as it came

    provider.find = look  # type: ignore[method-assign, assignment] # it records which
    recovering = Recovering(both)
    await recovering.turn()
    clock.tick(seconds=1)
    (lost,) = await lose_starts(both, "placeholder", 1)
    (attempt,) = await attempts.of_job(both.db, lost.id)
    provider.created[PredictionId("found")] = attempt

    await recovering.turn()

    assert (await jobs.get_any_tenant(both.db, lost.id)).prediction_id == "found"


async def test_cancellations_without_budget_do_not_block_searches(
    both: Runtime, provider: FakeProvider
) -> None:
    """The rate limit pauses cancellations for minutes, but lost predictions are still searched."""
    provider.budget = Budget(calls_per_minute=60)
    provider.reconcile_by = "find"
    both.cancels.slots("placeholder", calls_per_minute=60).calls.drain(seconds=600)
    await owe_cancels(both, "placeholder", 1)
    (lost,) = await lose_starts(both, "placeholder", 1)
    (attempt,) = await attempts.of_job(both.db, lost.id)
    provider.created[PredictionId("found")] = attempt
    seconds = [0.0]
    recovery = ProviderRecovery(both, "placeholder", clock=lambda: seconds[0])
    await recovery.cancel_turn()
    seconds[0] = recover.GRACE_SECONDS
    stopping = asyncio.create_task(recovery.cancel_turn())

    await recovery.reconcile_turn()

    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    assert (await jobs.get_any_tenant(both.db, lost.id)).prediction_id == "found"


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize("hangs", ["cancel", "find", "poll"])
async def test_a_hanging_provider_does_not_block_others(
    both: Runtime, provider: FakeProvider, broken: FakeProvider, clock: Clock, hangs: str
) -> None:
    """The real coordinator, with a provider that never responds to one of its calls."""
    provider.reconcile_by = broken.reconcile_by = "find"
    asked, done = asyncio.Event(), asyncio.Event()

    async def never(*_: object, **__: object) -> Prediction:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    setattr(broken, hangs, never)
    await owe_cancels(both, "broken", 1)
    await lose_starts(both, "broken", 1)
    running = await submit(both, a_request(provider="broken"))
    await start(both, running.id)
    clock.tick(seconds=1)
    coordinating = asyncio.create_task(coordinate(both))
    async with asyncio.timeout(LIMIT):
        await asked.wait()
    find, there = provider.find, asyncio.Event()

    async def find_once_there(*args: Any, **options: Any) -> Found:
        await there.wait()  # an earlier search would find nothing, and the next one is far away
        return await find(*args, **options)

    provider.find = find_once_there  # type: ignore[method-assign] # it waits for the test
    (job,) = await owe_cancels(both, "placeholder", 1)
    (lost,) = await lose_starts(both, "placeholder", 1)
    (attempt,) = await attempts.of_job(both.db, lost.id)
    provider.created[PredictionId("found")] = attempt
    there.set()

    async def record(_: PredictionId) -> None:
        done.set()

    provider.cancel = record  # type: ignore[method-assign, assignment] # it records when
    both.wakeups.notify("recover")

    async with asyncio.timeout(LIMIT):
        await done.wait()
        while (await jobs.get_any_tenant(both.db, lost.id)).prediction_id != "found":
            await asyncio.sleep(0.01)
    coordinating.cancel()
    await asyncio.gather(coordinating, return_exceptions=True)
    assert (await jobs.get_any_tenant(both.db, job.id)).status is Status.CANCELLED


@both_databases
async def test_jobs_that_cannot_be_released_do_not_block_others(
    rt: Runtime, second_worker: Callable[[], Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other expired workers, overdue jobs and the rest of the turn are still handled."""
    monkeypatch.setattr(recover, "PAGE", 2)
    victims = []
    for _ in range(2):
        victim = second_worker()
        await victim.lease.register()
        victims.append((victim, [await submit(rt, a_request()) for _ in range(5)]))
    for victim, made in victims:
        for job in made:
            assert await intend(victim, job.id) is not None
        await victim.lease.end()
    stuck = {job.id for _, made in victims for job in made[:4]}
    real = updates.apply

    async def flaky(db: object, job_id: object, *args: object, **kwargs: object) -> object:
        if job_id in stuck:
            raise RuntimeError("this row cannot be read")
        return await real(db, job_id, *args, **kwargs)  # type: ignore[arg-type] # as they came

    monkeypatch.setattr(updates, "apply", flaky)

    await Recovery(rt).turn()

    stages = {(await jobs.get_any_tenant(rt.db, made[4].id)).stage for _, made in victims}
    assert stages == {Stage.UNKNOWN}
