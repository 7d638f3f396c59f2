"""A difference of wall clocks alone starts, cancels, ends and schedules nothing."""

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


def almost_equal(one: datetime, other: datetime) -> bool:
    """Whether two times are equal within a minute, for slow machines."""
    return abs(one - other) < timedelta(minutes=1)


@both_databases
@pytest.mark.parametrize("shift", STEPS, ids=str)
async def test_a_wrong_wall_clock_does_not_move_the_time(rt: Runtime, shift: timedelta) -> None:
    """Wrong from the start or stepped later: the time comes from the shared anchor."""
    right = Clock(rt.db)
    await right.set()
    shown = [shift]
    wrong = Clock(rt.db, wall=lambda: datetime.now(UTC) + shown[0])

    await wrong.set()
    from_the_start = wrong()
    shown[0] = -shift
    stepped = wrong()
    await wrong.set()

    assert almost_equal(from_the_start, right())
    assert almost_equal(stepped, right())
    assert almost_equal(wrong(), right())
    assert almost_equal(right() + wrong.ahead, right() - shift)
    assert wrong.steps == 0


async def test_on_sqlite_time_follows_the_wall_clock_late_and_records_the_leap(
    rt: Runtime, clock: Fake
) -> None:
    """SQLite has no time of its own, and the skipped time does not count as elapsed."""
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


async def test_a_leap_is_recorded_at_its_own_time(rt: Runtime, clock: Fake) -> None:
    """The age of the anchor does not matter: running work has not become older."""
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


async def test_small_differences_are_corrected_gradually(rt: Runtime, clock: Fake) -> None:
    """No step is counted or logged."""
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


async def test_time_is_not_stable_right_after_a_reboot(rt: Runtime, clock: Fake) -> None:
    """The wall clock may still be corrected, and time never goes back behind a heartbeat."""
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
async def test_no_worker_expires_because_of_a_wrong_clock(
    rt: Runtime, clock: Fake, second_worker: Another, shift: timedelta
) -> None:
    """Heartbeats count whatever time they carry; a worker without heartbeats expires in time."""
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
async def test_leadership_is_lost_only_without_renewal(
    rt: Runtime, clock: Fake, second_worker: Another, shift: timedelta
) -> None:
    """A candidate whose clock is ahead must neither replace the coordinator nor wait for ever."""
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
async def test_a_clock_step_cancels_no_prediction_within_its_time(
    rt: Runtime, provider: FakeProvider, clock: Fake, step: timedelta
) -> None:
    """It is polled as before, and its end is noticed at once."""
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


async def test_a_new_coordinator_uses_the_age_given_by_the_provider(
    rt: Runtime, provider: FakeProvider, clock: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock step was not observed, but the provider reports a young prediction."""
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
async def test_a_prediction_bound_under_a_wrong_clock_is_polled(
    rt: Runtime, provider: FakeProvider, clock: Fake, shift: timedelta
) -> None:
    """The first poll may be due at any time in its row."""
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
async def test_no_deadline_passes_because_of_a_clock_step(
    rt: Runtime, clock: Fake, step: timedelta
) -> None:
    """Skipped time is added, but only to jobs that were submitted before the step."""
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
async def test_jobs_left_in_the_future_by_a_step_back_are_rescheduled(
    rt: Runtime, provider: FakeProvider, clock: Fake
) -> None:
    """A `run_at` that the caller has chosen stays."""
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
