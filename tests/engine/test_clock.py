"""No purchase, no stop, no end and no schedule follows from a difference of wall clocks alone."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backing_services import both_databases
from fakes import Clock as Fake
from fakes import FakeProvider, a_request
from fleek.domain.errors import ProviderUnavailable
from fleek.domain.job import Stage, Status
from fleek.engine import clock as engine_clock
from fleek.engine.admit import Admission
from fleek.engine.clock import STANDS_SECONDS, Clock
from fleek.engine.coordinator import _try_acquire
from fleek.engine.heartbeat import Unchanged
from fleek.engine.recover import Recovery, expire_dead_workers, reschedule_from_future
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.watch import SCAN_SECONDS, Watch
from fleek.providers.base import Prediction
from fleek.store import attempts, jobs, workers
from fleek.store.clock import Leap

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
STEPS = [-DAY, -HOUR, timedelta(minutes=-2), timedelta(minutes=2), HOUR, DAY]
Another = Callable[[], Runtime]


def close(one: datetime, other: datetime) -> bool:
    """Whether two times are the same, on a machine that may be slow."""
    return abs(one - other) < timedelta(minutes=1)


@both_databases
@pytest.mark.parametrize("shift", STEPS, ids=str)
async def test_a_wrong_wall_clock_does_not_move_the_time(rt: Runtime, shift: timedelta) -> None:
    """From the start, or as it steps: a process asks the others what time it is."""
    right = Clock(rt.db)
    await right.set()
    shown = [shift]
    wrong = Clock(rt.db, wall=lambda: datetime.now(UTC) + shown[0])

    await wrong.set()
    from_the_start = wrong()
    shown[0] = -shift
    stepped = wrong()
    await wrong.set()

    assert close(from_the_start, right())
    assert close(stepped, right())
    assert close(wrong(), right())
    assert close(right() + wrong.ahead, right() - shift)
    assert wrong.steps == 0


async def test_on_one_machine_time_follows_its_clock_late_and_remembers_the_leap(
    rt: Runtime, clock: Fake
) -> None:
    """SQLite has no time of its own; what the clock jumped over has not been lived through."""
    ours = Clock(rt.db, wall=clock, steady=clock.steady, boot="boot")
    await ours.set()
    began = ours()
    clock.step(hours=1)

    await ours.steer()
    clock.tick(seconds=STANDS_SECONDS - 1)
    await ours.steer()
    unmoved = ours()
    clock.tick(seconds=2)
    await ours.steer()

    assert unmoved == began + timedelta(seconds=STANDS_SECONDS - 1)
    assert ours() == clock()
    assert ours.steps == 1
    assert [leap.skipped for leap in ours.leaps] == [HOUR]
    lived = timedelta(seconds=STANDS_SECONDS + 1)
    assert ours.back(ours(), lived + timedelta(seconds=1)) < began
    assert ours.back(ours(), lived - timedelta(seconds=1)) > began


async def test_a_leap_is_remembered_at_its_own_time(rt: Runtime, clock: Fake) -> None:
    """However long ago the anchor was dropped: what ran then has not run for longer."""
    ours = Clock(rt.db, wall=clock, steady=clock.steady, boot="boot")
    await ours.set()
    clock.tick(seconds=DAY.total_seconds())
    before = ours()
    clock.step(hours=1)
    await ours.steer()
    clock.tick(seconds=STANDS_SECONDS + 1)

    await ours.steer()

    assert ours() == clock()
    assert [leap.at for leap in ours.leaps] == [ours()]
    assert ours.lived(before, ours()) == timedelta(seconds=STANDS_SECONDS + 1)


async def test_small_differences_are_made_up_for_little_by_little(
    rt: Runtime, clock: Fake
) -> None:
    """Nobody notices, and nothing is logged."""
    ours = Clock(rt.db, wall=clock, steady=clock.steady, boot="boot")
    await ours.set()
    clock.step(seconds=1)

    apart = []
    for _ in range(12):
        await ours.steer()
        apart.append(ours.ahead)

    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < engine_clock.MAX_CORRECTION
    assert ours.steps == 0


async def test_after_a_restart_of_the_machine_time_ends_nothing_yet(
    rt: Runtime, clock: Fake
) -> None:
    """Its clock may have to be put right first; and time never goes back behind a heartbeat."""
    before = Clock(rt.db, wall=clock, steady=clock.steady, boot="boot")
    await before.set()
    await rt.lease.beat()
    clock.step(hours=-1)
    after = Clock(rt.db, wall=clock, steady=clock.steady, boot="next")

    await after.set()

    assert before.stable
    assert after() == before()
    assert not after.stable
    clock.tick(seconds=engine_clock.STABILIZES_SECONDS)
    assert after.stable


@both_databases
@pytest.mark.parametrize("shift", STEPS, ids=str)
async def test_no_worker_dies_of_another_clock(
    rt: Runtime, clock: Fake, second_worker: Another, shift: timedelta
) -> None:
    """Whoever beats is alive, whatever time it writes; whoever does not is dead in time."""
    other = second_worker()
    beats = replace(other, now=lambda: clock() + shift)
    beats.lease._now = beats.now
    await beats.lease.register()
    for _ in range(10):
        await expire_dead_workers(rt)
        clock.tick(seconds=rt.lease.heartbeat.total_seconds())
        await beats.lease.beat()
        await rt.lease.beat()
    alive = {one.id for one in await workers.running(rt.db)}

    await expire_dead_workers(rt)
    clock.tick(seconds=rt.lease.dead_after.total_seconds() + 1)
    await rt.lease.beat()
    await expire_dead_workers(rt)

    assert alive == {rt.lease.worker_id, beats.lease.worker_id}
    assert [one.id for one in await workers.running(rt.db)] == [rt.lease.worker_id]


@both_databases
@pytest.mark.parametrize("shift", STEPS, ids=str)
async def test_the_role_is_lost_only_if_it_is_not_renewed(
    rt: Runtime, clock: Fake, second_worker: Another, shift: timedelta
) -> None:
    """A candidate whose clock is ahead must not push the coordinator out; nor wait for ever."""
    other = replace(second_worker(), now=lambda: clock() + shift)
    await other.lease.register()
    mine, theirs = Unchanged(clock.steady), Unchanged(clock.steady)
    assert await _try_acquire(rt, mine)

    taken = []
    for _ in range(5):
        clock.tick(seconds=rt.lease.heartbeat.total_seconds())
        await rt.lease.beat()
        await other.lease.beat()
        assert await _try_acquire(rt, mine)
        taken.append(await _try_acquire(other, theirs))
    for _ in range(4):
        clock.tick(seconds=rt.lease.heartbeat.total_seconds())
        await other.lease.beat()
        await rt.lease.beat()
    late = await _try_acquire(other, theirs)

    assert not any(taken)
    assert late


@both_databases
@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_a_step_stops_no_prediction_that_is_in_time(
    rt: Runtime, provider: FakeProvider, clock: Fake, step: timedelta
) -> None:
    """It is looked at as before, and its end is seen at once."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)
    watching = Watch(rt)
    clock.tick(seconds=1)
    await watching.turn()

    clock.step(hours=step.total_seconds() / 3600)
    rt.clock.leaps = (Leap(clock(), step),) if step > timedelta(0) else ()
    for _ in range(30):
        clock.tick(seconds=1)
        await watching.turn()
    (attempt,) = await attempts.of_job(rt.db, job.id)
    provider.outcome = FakeProvider().outcome
    clock.tick(seconds=5)
    await watching.turn()

    assert not attempt.cancel_owed
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING


async def test_a_new_coordinator_believes_the_provider_s_clock_too(
    rt: Runtime, provider: FakeProvider, clock: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has seen the step: that of the provider does not say that it runs for so long."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)
    clock.step(days=1)
    ages = [timedelta(seconds=20), DAY]
    poll = provider.poll

    async def aged(ids: list[str]) -> dict[str, Prediction]:
        seen = await poll(ids)  # type: ignore[arg-type]  # ids are strings
        return {key: replace(one, age=ages[0]) for key, one in seen.items()}

    monkeypatch.setattr(provider, "poll", aged)
    await Watch(rt).turn()
    (young,) = await attempts.of_job(rt.db, job.id)
    del ages[0]
    await Watch(rt).turn()
    (old,) = await attempts.of_job(rt.db, job.id)

    assert not young.cancel_owed
    assert old.cancel_owed


@pytest.mark.parametrize("shift", STEPS, ids=str)
async def test_what_another_clock_has_bound_is_seen_to_end(
    rt: Runtime, provider: FakeProvider, clock: Fake, shift: timedelta
) -> None:
    """Whatever first look its row asks for."""
    watching = Watch(rt)
    await watching.turn()
    provider.outcome = None
    there = replace(rt, now=lambda: clock() + shift)
    job = await submit(there, a_request())
    await start(there, job.id)

    provider.outcome = FakeProvider().outcome
    clock.tick(seconds=SCAN_SECONDS + 1)
    await watching.turn()
    clock.tick(seconds=1)
    await watching.turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING


@both_databases
@pytest.mark.parametrize("step", [HOUR, DAY * 2], ids=str)
async def test_no_deadline_passes_by_a_step(rt: Runtime, clock: Fake, step: timedelta) -> None:
    """What the clock jumped over is added; jobs from after it have no more time than they had."""
    before = await submit(rt, a_request(deadline=timedelta(minutes=30)))
    clock.step(hours=step.total_seconds() / 3600)
    rt.clock.leaps = (Leap(clock(), step),)
    after = await submit(rt, a_request(deadline=timedelta(minutes=10)))
    recovery = Recovery(rt)

    await recovery.turn()
    clock.tick(minutes=11)
    await rt.lease.beat()
    await recovery.turn()
    then = [(await jobs.get_any_tenant(rt.db, one.id)).status for one in (before, after)]
    clock.tick(minutes=20)
    await rt.lease.beat()
    await recovery.turn()

    assert then == [Status.PENDING, Status.FAILED]
    assert (await jobs.get_any_tenant(rt.db, before.id)).status is Status.FAILED


@both_databases
async def test_what_a_step_back_left_in_the_future_waits_no_longer_than_meant(
    rt: Runtime, provider: FakeProvider, clock: Fake
) -> None:
    """But a time that its caller chose is that time."""
    fresh, retried = await submit(rt, a_request()), await submit(rt, a_request())
    chosen = await submit(rt, a_request(run_at=clock() + timedelta(minutes=5)))
    provider.starts = [ProviderUnavailable("busy")]
    await start(rt, retried.id)
    clock.step(hours=-1)

    await reschedule_from_future(rt)

    assert (await jobs.get_any_tenant(rt.db, fresh.id)).run_at == clock()
    assert clock() <= (await jobs.get_any_tenant(rt.db, retried.id)).run_at
    assert (
        await jobs.get_any_tenant(rt.db, retried.id)
    ).run_at <= clock() + rt.settings.backoff.ceiling
    assert (await jobs.get_any_tenant(rt.db, chosen.id)).run_at == chosen.run_at
    clock.tick(seconds=61)
    await Admission(rt).turn()
