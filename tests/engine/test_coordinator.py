"""Coordinating: one at a time, and somebody always."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from fakes import Clock, FakeProvider, a_request
from fleek.bootstrap import open_runtime
from fleek.dispatch.base import Task
from fleek.domain.errors import DatabaseUnavailable, DispatcherUnavailable
from fleek.domain.job import JobId, Status
from fleek.engine import coordinator
from fleek.engine.admit import BUSY, IDLE, REPEAT_SECONDS, Admission, Dispatches
from fleek.engine.coordinator import ROLE, coordinate, release_leadership
from fleek.engine.heartbeat import ROLE_LASTS, WorkerLease
from fleek.engine.loops import REST_SECONDS, RESTS, ShieldedTasks, Wakeups, loop, run_logged
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.settings import Settings
from fleek.store import events, jobs, workers
from fleek.store.migrate import migrate
from fleek.worker import work

HEARTBEAT = timedelta(seconds=0.05)  # of workers that hold no job: who is starved looks dead
LIMIT = 30  # seconds; nothing here waits for time to pass


class Nudged:
    """A dispatcher that only remembers."""

    def __init__(self) -> None:
        self.sent: list[tuple[Task, JobId]] = []
        self.away = False

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Remember, or be away."""
        if self.away:
            raise DispatcherUnavailable("no broker")
        self.sent.append((task, job_id))

    async def consume(self, *_: object, **__: object) -> None:
        """Never called."""
        raise AssertionError

    async def check(self) -> None:
        """Always fine."""


@pytest.fixture
async def living(settings: Settings, provider: FakeProvider) -> AsyncGenerator[Runtime]:
    """Return a runtime on the real clock."""
    async with open_runtime(settings) as opened:
        await migrate(opened.db)
        yield replace(opened, providers={"placeholder": provider})


async def test_admission_goes_by_priority_then_by_age(rt: Runtime, clock: Clock) -> None:
    """9 goes first."""
    dispatched = Nudged()
    rt = replace(rt, dispatcher=dispatched)
    made = []
    for priority in (0, 5, 9, 5):
        clock.tick(seconds=1)
        made.append(await submit(rt, a_request(priority=priority)))

    await Admission(rt).turn()

    assert [job_id for _, job_id in dispatched.sent] == [made[i].id for i in (2, 1, 3, 0)]


async def test_admission_does_not_flood_the_dispatcher(rt: Runtime, clock: Clock) -> None:
    """At most four nudges per slot are outstanding, and none is repeated at once."""
    dispatched = Nudged()
    rt = replace(rt, dispatcher=dispatched)
    await asyncio.gather(*(submit(rt, a_request()) for _ in range(30)))
    clock.tick(seconds=1)
    admission = Admission(rt)

    for _ in range(3):
        await admission.turn()

    assert len(dispatched.sent) == len(set(dispatched.sent)) == 16


async def test_an_answered_nudge_makes_room_for_the_next(rt: Runtime, clock: Clock) -> None:
    """The queue drains."""
    dispatched = Nudged()
    rt = replace(rt, dispatcher=dispatched)
    await asyncio.gather(*(submit(rt, a_request()) for _ in range(20)))
    clock.tick(seconds=1)
    admission = Admission(rt)
    await admission.turn()
    for _, job_id in dispatched.sent[:4]:
        await start(rt, job_id)

    await admission.turn()

    assert len(dispatched.sent) == 20


async def test_a_tenant_with_thousands_of_jobs_delays_another_by_one_free_place(
    rt: Runtime, clock: Clock
) -> None:
    """Its first job is the next to be dispatched, and then the two take turns."""
    dispatched = Nudged()
    rt = replace(rt, dispatcher=dispatched)
    await asyncio.gather(*(submit(rt, a_request(tenant_id="many")) for _ in range(5000)))
    clock.tick(seconds=1)
    admission = Admission(rt)
    await admission.turn()
    sent = len(dispatched.sent)
    few = [(await submit(rt, a_request(tenant_id="few"))).id for _ in range(3)]
    clock.tick(seconds=1)

    await admission.turn()
    without_a_place = len(dispatched.sent)
    for _, job_id in dispatched.sent[:4]:
        await start(rt, job_id)
        await admission.turn()

    assert without_a_place == sent
    assert [job_id for _, job_id in dispatched.sent[sent : sent + 3]] == few
    assert len(dispatched.sent) == sent + 4


async def test_an_unanswered_nudge_is_sent_again(rt: Runtime) -> None:
    """The dispatcher may have lost it."""
    dispatched = Nudged()
    rt = replace(rt, dispatcher=dispatched)
    job = await submit(rt, a_request())
    nudges = Dispatches("start")
    wanted = {job.id: job.run_at}
    await nudges.send(rt, wanted, most=4)
    run_at, sent = nudges._sent[job.id]
    nudges._sent[job.id] = (run_at, sent - REPEAT_SECONDS - 1)

    await nudges.send(rt, wanted, most=4)

    assert dispatched.sent == [("start", job.id)] * 2


async def test_a_job_that_comes_back_at_once_is_nudged_at_once(rt: Runtime) -> None:
    """Taken and given back between two looks, it must not wait until its old nudge is too old."""
    dispatched = Nudged()
    rt = replace(rt, dispatcher=dispatched)
    job = await submit(rt, a_request())
    nudges = Dispatches("start")
    await nudges.send(rt, {job.id: job.run_at}, most=4)

    await nudges.send(rt, {job.id: job.run_at + timedelta(milliseconds=2)}, most=4)

    assert dispatched.sent == [("start", job.id)] * 2


async def test_a_dispatcher_that_is_away_is_tried_again(rt: Runtime) -> None:
    """The jobs are safe meanwhile."""
    dispatched = Nudged()
    dispatched.away = True
    rt = replace(rt, dispatcher=dispatched)
    job = await submit(rt, a_request())
    admission = Admission(rt)
    await admission.turn()
    dispatched.away = False

    await admission.turn()

    assert dispatched.sent == [("start", job.id)]


async def test_admission_wakes_for_the_next_job_of_later(rt: Runtime, clock: Clock) -> None:
    """Not a second too late, and never in a hurry."""
    await submit(rt, a_request(run_at=clock() + timedelta(seconds=0.5)))
    assert await Admission(rt).turn() == timedelta(seconds=0.5)
    clock.tick(seconds=0.4999)

    assert await Admission(rt).turn() == BUSY


async def test_with_nothing_to_do_admission_rests(rt: Runtime) -> None:
    """An idle service costs next to nothing."""
    assert await Admission(rt).turn() == IDLE


async def test_a_job_runs_from_submit_to_completed(living: Runtime) -> None:
    """The whole engine in one process, driven by nothing but its own loops."""
    stop = asyncio.Event()
    working = asyncio.create_task(work(living, stop))
    job = await submit(living, a_request())
    async with asyncio.timeout(LIMIT):
        while not (await jobs.get_any_tenant(living.db, job.id)).terminal:
            await asyncio.sleep(0.01)
    stop.set()
    await working

    assert (await jobs.get_any_tenant(living.db, job.id)).status is Status.COMPLETED
    seen = [event.type for event in await events.of_job(living.db, job.id)]
    assert seen == ["submitted", "starting", "waiting", "predicted", "collecting", "completed"]


async def test_one_worker_coordinates_and_another_takes_over(living: Runtime) -> None:
    """A role that is given back need not be waited for."""
    first, second = _worker(living), _worker(living)
    for one in (first, second):
        await one.lease.register()
    terms = [asyncio.create_task(coordinate(one)) for one in (first, second)]
    holder = await _holder(living)
    leaving, staying = (first, second) if holder == first.lease.worker_id else (second, first)
    leaver = terms[0] if leaving is first else terms[1]

    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    await release_leadership(leaving)
    async with asyncio.timeout(LIMIT):
        while await _holder(living) != staying.lease.worker_id:
            await asyncio.sleep(0.01)

    for term in terms:
        term.cancel()
    await asyncio.gather(*terms, return_exceptions=True)


async def test_a_coordinator_that_lost_its_role_stops(living: Runtime) -> None:
    """Two for a moment is harmless; two for long is not."""
    far = datetime.now(UTC) + timedelta(hours=1)
    one = _worker(living)
    other = _worker(replace(living, now=lambda: far))  # never silent, however slow this goes
    await one.lease.register()
    await other.lease.register()
    term = asyncio.create_task(coordinate(one))
    async with asyncio.timeout(LIMIT):
        while not living.metrics.coordinating._value.get():
            await asyncio.sleep(0.01)
    async with living.db.write() as tx:
        await tx.exec_driver_sql(
            "UPDATE roles SET worker_id = ?, expires_at = ?",
            (other.lease.worker_id.hex, far.replace(tzinfo=None).isoformat(sep=" ")),
        )

    async with asyncio.timeout(LIMIT):
        while living.metrics.coordinating._value.get():
            await asyncio.sleep(0.01)

    assert await workers.holder(living.db, ROLE, now=living.now()) == other.lease.worker_id
    term.cancel()
    await asyncio.gather(term, return_exceptions=True)


async def test_a_coordinator_without_a_database_stops_when_its_role_may_be_lost(
    living: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one may have taken over where the database still answers."""
    one = _worker(living)
    await one.lease.register()

    async def away(*_: object, **__: object) -> bool:
        raise DatabaseUnavailable("no answer")

    monkeypatch.setattr(workers, "take_role", away)
    monkeypatch.setattr(coordinator, "SHORTEST_LEASE", HEARTBEAT)

    async with asyncio.timeout(LIMIT):
        await coordinator._renew_role(one)

    await release_leadership(one)


async def test_leadership_outlasts_slow_renewals(
    rt: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine under load takes seconds for a commit; the role is lost when another has it."""
    renewals: list[bool] = [True, True, True, False]
    one = replace(_worker(rt), clock=rt.clock)
    await one.lease.register()

    async def slow(*_: object, **__: object) -> bool:
        clock.tick(minutes=1)
        return renewals.pop(0)

    monkeypatch.setattr(workers, "take_role", slow)

    async with asyncio.timeout(LIMIT):
        await coordinator._renew_role(one)

    assert renewals == []


async def test_resigning_without_a_database_is_no_trouble(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role ends by itself."""

    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("no answer")

    monkeypatch.setattr(workers, "drop_role", away)

    await release_leadership(rt)

    assert ROLE_LASTS > 0


async def test_a_loop_survives_every_error(rt: Runtime) -> None:
    """It is logged and counted, and the next turn comes."""
    turns: list[int] = []

    async def turn() -> timedelta:
        turns.append(1)
        if len(turns) == 1:
            raise ZeroDivisionError
        if len(turns) == 2:
            raise DatabaseUnavailable("no answer")
        return timedelta(milliseconds=1)

    running = asyncio.create_task(loop(rt, "admit", turn, patience=timedelta(milliseconds=1)))
    async with asyncio.timeout(LIMIT):
        while len(turns) < 5:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert rt.metrics.failures.labels("admit")._value.get() == 2
    assert rt.metrics.last_success.labels("admit")._value.get() > 0


@pytest.mark.parametrize("took", [0, 0.05])
async def test_a_bell_that_rings_without_end_costs_few_turns(rt: Runtime, took: float) -> None:
    """Each turn asks the database; under load every submission and every start rings."""
    turns: list[float] = []

    async def turn() -> timedelta:
        turns.append(time.monotonic())
        rt.wakeups.notify("admit")
        await asyncio.sleep(took)
        return timedelta(seconds=60)

    running = asyncio.create_task(loop(rt, "admit", turn, patience=timedelta(seconds=1)))
    async with asyncio.timeout(LIMIT):
        while len(turns) < 4:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    rest = max(RESTS * took, REST_SECONDS)
    assert all(later - sooner > 0.9 * (took + rest) for sooner, later in pairwise(turns))


async def test_a_bell_wakes_before_the_time() -> None:
    """So a job starts in milliseconds."""
    wakeups = Wakeups()
    with wakeups.listen("admit") as one, wakeups.listen("admit") as other:
        wakeups.notify("admit")

        async with asyncio.timeout(LIMIT):
            await one.wait(seconds=60)
            await other.wait(seconds=60)  # whoever is busy hears it later
            await one.wait(seconds=0.001)


async def test_a_duty_that_takes_too_long_is_given_up() -> None:
    """A process that was told to stop does stop."""
    shielded = ShieldedTasks()
    begun = asyncio.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    caller = asyncio.create_task(shielded.run(never()))
    await begun.wait()

    await shielded.finish(seconds=0.01)
    await shielded.finish(seconds=0.01)

    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_guarded_task_gives_its_result(rt: Runtime) -> None:
    """Only failures are swallowed."""

    async def seven() -> int:
        return 7

    assert await run_logged(rt, "admit", seven) == 7


def _worker(rt: Runtime) -> Runtime:
    return replace(rt, lease=WorkerLease(rt.db, heartbeat=HEARTBEAT, slots=1, now=rt.now))


async def _holder(rt: Runtime) -> object:
    async with asyncio.timeout(LIMIT):
        while True:
            if found := await workers.holder(rt.db, ROLE, now=rt.now()):
                return found
            await asyncio.sleep(0.01)
