"""The coordinator: one at a time, and always one."""

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
from fleek.engine.admit import BUSY, IDLE, Admission
from fleek.engine.coordinator import ROLE, coordinate, release_leadership
from fleek.engine.dispatches import REPEAT_SECONDS, Dispatches
from fleek.engine.heartbeat import ROLE_LASTS, WorkerLease
from fleek.engine.loops import REST_SECONDS, RESTS, ShieldedTasks, Wakeups, loop, run_logged
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.settings import Settings
from fleek.store import events, jobs, workers
from fleek.store.migrate import migrate
from fleek.worker import work

HEARTBEAT = timedelta(seconds=0.05)  # of workers that hold no job: a starved one looks dead
LIMIT = 30  # seconds; nothing here waits for time to pass


class RecordingDispatcher:
    """A dispatcher that records ids only."""

    def __init__(self) -> None:
        self.sent: list[tuple[Task, JobId]] = []
        self.away = False

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Record the id, or be unavailable."""
        if self.away:
            raise DispatcherUnavailable("no broker")
        self.sent.append((task, job_id))

    async def consume(self, *_: object, **__: object) -> None:
        """Never called."""
        raise AssertionError

    async def check(self) -> None:
        """Always succeed."""


@pytest.fixture
async def with_real_clock(settings: Settings, provider: FakeProvider) -> AsyncGenerator[Runtime]:
    """Return a runtime on the real clock."""
    async with open_runtime(settings) as opened:
        await migrate(opened.db)
        yield replace(opened, providers={"placeholder": provider})


async def test_admission_goes_by_priority_then_by_age(rt: Runtime, clock: Clock) -> None:
    """9 is the highest priority."""
    dispatched = RecordingDispatcher()
    rt = replace(rt, dispatcher=dispatched)
    made = []
    for priority in (0, 5, 9, 5):
        clock.tick(seconds=1)
        made.append(await submit(rt, a_request(priority=priority)))

    await Admission(rt).turn()

    assert [job_id for _, job_id in dispatched.sent] == [made[i].id for i in (2, 1, 3, 0)]


async def test_admission_does_not_flood_the_dispatcher(rt: Runtime, clock: Clock) -> None:
    """At most four ids per slot are outstanding, and none is repeated at once."""
    dispatched = RecordingDispatcher()
    rt = replace(rt, dispatcher=dispatched)
    await asyncio.gather(*(submit(rt, a_request()) for _ in range(30)))
    clock.tick(seconds=1)
    admission = Admission(rt)

    for _ in range(3):
        await admission.turn()

    assert len(dispatched.sent) == len(set(dispatched.sent)) == 16


async def test_a_started_job_makes_room_for_the_next_dispatch(rt: Runtime, clock: Clock) -> None:
    """The queue drains."""
    dispatched = RecordingDispatcher()
    rt = replace(rt, dispatcher=dispatched)
    await asyncio.gather(*(submit(rt, a_request()) for _ in range(20)))
    clock.tick(seconds=1)
    admission = Admission(rt)
    await admission.turn()
    for _, job_id in dispatched.sent[:4]:
        await start(rt, job_id)

    await admission.turn()

    assert len(dispatched.sent) == 20


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_tenant_with_a_thousand_jobs_delays_another_by_one_free_place(
    rt: Runtime, clock: Clock
) -> None:
    """Its first job is dispatched next, then the two tenants alternate."""
    dispatched = RecordingDispatcher()
    rt = replace(rt, dispatcher=dispatched)
    await asyncio.gather(*(submit(rt, a_request(tenant_id="many")) for _ in range(1000)))
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


async def test_an_unanswered_dispatch_is_repeated(rt: Runtime) -> None:
    """The dispatcher may have lost it."""
    dispatched = RecordingDispatcher()
    rt = replace(rt, dispatcher=dispatched)
    job = await submit(rt, a_request())
    nudges = Dispatches("start")
    wanted = {job.id: job.run_at}
    await nudges.send(rt, wanted, most=4, running=())
    run_at, sent = nudges._sent[job.id]
    nudges._sent[job.id] = (run_at, sent - REPEAT_SECONDS - 1)

    await nudges.send(rt, wanted, most=4, running=())

    assert dispatched.sent == [("start", job.id)] * 2


async def test_a_job_released_at_once_is_dispatched_at_once(rt: Runtime) -> None:
    """It must not wait until its previous dispatch has expired."""
    dispatched = RecordingDispatcher()
    rt = replace(rt, dispatcher=dispatched)
    job = await submit(rt, a_request())
    nudges = Dispatches("start")
    await nudges.send(rt, {job.id: job.run_at}, most=4, running=())

    await nudges.send(rt, {job.id: job.run_at + timedelta(milliseconds=2)}, most=4, running=())

    assert dispatched.sent == [("start", job.id)] * 2


async def test_an_unavailable_dispatcher_is_tried_again(rt: Runtime) -> None:
    """The jobs are safe in the database."""
    dispatched = RecordingDispatcher()
    dispatched.away = True
    rt = replace(rt, dispatcher=dispatched)
    job = await submit(rt, a_request())
    admission = Admission(rt)
    await admission.turn()
    dispatched.away = False

    await admission.turn()

    assert dispatched.sent == [("start", job.id)]


async def test_admission_wakes_for_the_next_scheduled_job(rt: Runtime, clock: Clock) -> None:
    """It is neither late nor busy waiting."""
    await submit(rt, a_request(run_at=clock() + timedelta(seconds=0.5)))
    assert await Admission(rt).turn() == timedelta(seconds=0.5)
    clock.tick(seconds=0.4999)

    assert await Admission(rt).turn() == BUSY


async def test_idle_admission_waits(rt: Runtime) -> None:
    """An idle service costs next to nothing."""
    assert await Admission(rt).turn() == IDLE


async def test_a_job_runs_from_submit_to_completed(with_real_clock: Runtime) -> None:
    """The whole engine runs in one process, driven by its own loops only."""
    stop = asyncio.Event()
    working = asyncio.create_task(work(with_real_clock, stop))
    job = await submit(with_real_clock, a_request())
    async with asyncio.timeout(LIMIT):
        while not (await jobs.get_any_tenant(with_real_clock.db, job.id)).terminal:
            await asyncio.sleep(0.01)
    stop.set()
    await working

    assert (await jobs.get_any_tenant(with_real_clock.db, job.id)).status is Status.COMPLETED
    seen = [event.type for event in await events.of_job(with_real_clock.db, job.id)]
    assert seen == ["submitted", "starting", "waiting", "predicted", "collecting", "completed"]


async def test_one_worker_coordinates_and_another_takes_over(with_real_clock: Runtime) -> None:
    """A released leadership is taken over without waiting for its expiry."""
    first, second = _worker(with_real_clock), _worker(with_real_clock)
    for one in (first, second):
        await one.lease.register()
    terms = [asyncio.create_task(coordinate(one)) for one in (first, second)]
    holder = await _holder(with_real_clock)
    leaving, staying = (first, second) if holder == first.lease.worker_id else (second, first)
    leaver = terms[0] if leaving is first else terms[1]

    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    await release_leadership(leaving)
    async with asyncio.timeout(LIMIT):
        while await _holder(with_real_clock) != staying.lease.worker_id:
            await asyncio.sleep(0.01)

    for term in terms:
        term.cancel()
    await asyncio.gather(*terms, return_exceptions=True)


async def test_a_coordinator_without_leadership_stops(with_real_clock: Runtime) -> None:
    """Two coordinators are harmless for a moment, but not for long."""
    far = datetime.now(UTC) + timedelta(hours=1)
    one = _worker(with_real_clock)
    other = _worker(
        replace(with_real_clock, now=lambda: far)
    )  # no missed heartbeat on a slow machine
    await one.lease.register()
    await other.lease.register()
    term = asyncio.create_task(coordinate(one))
    async with asyncio.timeout(LIMIT):
        while not with_real_clock.metrics.coordinating._value.get():
            await asyncio.sleep(0.01)
    async with with_real_clock.db.write() as tx:
        await tx.exec_driver_sql(
            "UPDATE roles SET worker_id = ?, expires_at = ?",
            (other.lease.worker_id.hex, far.replace(tzinfo=None).isoformat(sep=" ")),
        )

    async with asyncio.timeout(LIMIT):
        while with_real_clock.metrics.coordinating._value.get():
            await asyncio.sleep(0.01)

    assert (
        await workers.holder(with_real_clock.db, ROLE, now=with_real_clock.now())
        == other.lease.worker_id
    )
    term.cancel()
    await asyncio.gather(term, return_exceptions=True)


async def test_a_coordinator_stops_when_its_leadership_cannot_be_renewed(
    with_real_clock: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker may have taken over where the database still responds."""
    one = _worker(with_real_clock)
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
    """A commit may take seconds under load; leadership is lost when another worker has it."""
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


async def test_releasing_leadership_without_a_database_raises_nothing(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leadership expires by itself."""

    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("no answer")

    monkeypatch.setattr(workers, "drop_role", away)

    await release_leadership(rt)

    assert ROLE_LASTS > 0


async def test_a_loop_survives_every_error(rt: Runtime) -> None:
    """The error is logged and counted, and the next turn follows."""
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
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_constant_wake_ups_cause_few_turns(rt: Runtime, took: float) -> None:
    """Each turn queries the database, and under load every submission and start sends a wake-up."""
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


async def test_a_wake_up_ends_a_wait_early() -> None:
    """A job starts within milliseconds."""
    wakeups = Wakeups()
    with wakeups.listen("admit") as one, wakeups.listen("admit") as other:
        wakeups.notify("admit")

        async with asyncio.timeout(LIMIT):
            await one.wait(seconds=60)
            await other.wait(seconds=60)  # a busy listener receives it later
            await one.wait(seconds=0.001)


async def test_an_overlong_shielded_task_is_cancelled() -> None:
    """A process that receives SIGTERM does end."""
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


async def test_a_logged_run_returns_its_result(rt: Runtime) -> None:
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
