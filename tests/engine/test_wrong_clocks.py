"""Processes with their own clocks share a database: a wrong clock costs nothing.

Each process is a runtime with its own wall clock. The machine's steady clock and the time of
PostgreSQL are the test's.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from backing_services import both_databases
from fakes import WELL, Clock, FakeProvider, a_request
from fleek.cli.purge import BulkPurge
from fleek.cli.screen import Screen
from fleek.domain.job import Job, Status
from fleek.engine import clock as engine_clock
from fleek.engine.callback import receive
from fleek.engine.collect import collect
from fleek.engine.heartbeat import WorkerLease
from fleek.engine.purge import Retention
from fleek.engine.recover import Recovery, expire_dead_workers
from fleek.engine.runtime import Runtime
from fleek.engine.start import intend, start, start_prediction
from fleek.engine.submit import submit
from fleek.engine.watch import SCAN_SECONDS, Watch
from fleek.store import attempts, jobs
from fleek.store.clock import Leap, Reading, ask_postgres
from fleek.store.clock import leaps as stored_leaps
from fleek.store.database import Database
from fleek.store.tables import ClockRow
from fleek.system_clock import Steady
from recovering import Recovering
from sampled import sampled
from stored_outputs import completed, left_of, with_settings

MINUTES, HOUR, DAY = timedelta(minutes=5), timedelta(hours=1), timedelta(days=1)
WRONG = [
    (process, shift)
    for process in ("api", "worker", "coordinator")
    for shift in (-DAY, -HOUR, -MINUTES, MINUTES, HOUR, DAY)
]
SAMPLE = 4  # each process, and each shift but one
LOOKED_FOR_SECONDS = engine_clock.STANDS_SECONDS + 10


@pytest.fixture(autouse=True)
def _server_time(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Make PostgreSQL report the time of the test."""

    async def report(_: Database, steady: Steady) -> Reading:
        return Reading(clock(), steady())

    monkeypatch.setattr("fleek.store.clock.ask_postgres", report)


class Process:
    """A process whose wall clock is off by `shift`."""

    def __init__(
        self, shared: Runtime, clock: Clock, shift: timedelta, boot: str = "boot"
    ) -> None:
        self.shift = shift
        self.clock = engine_clock.Clock(
            shared.db, wall=lambda: clock() + self.shift, steady=clock.steady, boot=boot
        )
        lease = WorkerLease(
            shared.db,
            heartbeat=shared.lease.heartbeat,
            slots=4,
            now=self.clock,
            steady=clock.steady,
        )
        self.rt = replace(
            shared, now=self.clock, clock=self.clock, steady=clock.steady, lease=lease
        )

    async def begin(self) -> "Process":
        """Read the time, and register."""
        await self.clock.set()
        await self.rt.lease.register()
        return self

    async def beat(self) -> None:
        """Do the work of a heartbeat."""
        await self.clock.set()
        await self.rt.lease.beat()


async def watched(processes: list[Process], clock: Clock, *, seconds: float) -> None:
    """Let time pass; the last process coordinates."""
    watching, left = Watch(processes[-1].rt), seconds
    while left > 0:
        clock.tick(seconds=5)
        left -= 5
        for one in processes:
            await one.beat()
        await processes[-1].clock.steer()
        await watching.turn()


async def crash_before_binding(process: Process, job: Job) -> None:
    """Create a prediction, and crash before it is recorded."""
    intended = await intend(process.rt, job.id)
    assert intended is not None
    await start_prediction(process.rt, *intended)


async def recover_after(processes: list[Process], clock: Clock) -> None:
    """Expire crashed workers, and find their predictions."""
    coordinator = processes[-1].rt
    await expire_dead_workers(coordinator)
    clock.tick(seconds=coordinator.lease.dead_after.total_seconds() + 1)
    for one in processes:
        await one.beat()
    recovering = Recovering(coordinator)
    for _ in range(3):
        await recovering.turn()


async def call_back(process: Process, job: Job) -> None:
    """Send the provider's callback to the API."""
    (attempt,) = await attempts.of_job(process.rt.db, job.id)

    async def body() -> bytes:
        return str(attempt.prediction_id).encode()

    headers = {"webhook-signature": "fake", "webhook-id": f"msg-{attempt.id}"}
    token = f"{attempt.id}.{attempt.nonce}"
    await receive(process.rt, "placeholder", token, headers=headers, read=body)


@pytest.mark.parametrize(
    ("database", "wrong", "shift"),
    [
        *sampled((("sqlite", *case) for case in WRONG), every=SAMPLE),
        *(("postgresql", *case) for case in WRONG),
    ],
    indirect=["database"],
    ids=str,
)
async def test_a_wrong_clock_creates_cancels_and_delays_nothing(
    rt: Runtime, provider: FakeProvider, clock: Clock, shift: timedelta, wrong: str
) -> None:
    """Wrong from the start, stepping during operation, and off again after a crash.

    One job is reported by a callback; the ends of the others are found by polling alone.
    """
    provider.outcome = None
    shifts = {
        "api": timedelta(0),
        "worker": timedelta(0),
        "coordinator": timedelta(0),
        wrong: shift,
    }
    coordinator = await Process(rt, clock, shifts["coordinator"]).begin()
    api = await Process(rt, clock, shifts["api"]).begin()
    victim = await Process(rt, clock, shifts["worker"]).begin()
    ordinary, lost = await submit(api.rt, a_request()), await submit(api.rt, a_request())
    await start(victim.rt, ordinary.id)
    await crash_before_binding(victim, lost)

    for one in (api, coordinator):
        one.shift = -one.shift
    heir = await Process(rt, clock, -shifts["worker"]).begin()
    await recover_after([heir, api, coordinator], clock)
    late = await submit(api.rt, a_request())
    await start(heir.rt, late.id)
    await watched([heir, api, coordinator], clock, seconds=LOOKED_FOR_SECONDS)
    provider.outcome = WELL
    everything = (ordinary, lost, late)
    await call_back(api, ordinary)
    await watched([heir, api, coordinator], clock, seconds=SCAN_SECONDS + 10)
    for job in everything:
        await collect(heir.rt, job.id)

    assert [(await jobs.get_any_tenant(rt.db, job.id)).status for job in everything] == [
        Status.COMPLETED
    ] * 3
    assert len(provider.created) == 3
    assert provider.cancelled == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_failover_to_a_server_whose_clock_is_ahead_is_one_leap(
    rt: Runtime, clock: Clock
) -> None:
    """Two processes observe it one after the other; the way back is a step and no leap."""
    one, other = [await Process(rt, clock, timedelta(0)).begin() for _ in range(2)]
    began = clock()
    clock.tick(minutes=10)
    clock.step(hours=1)

    await one.clock.set()
    clock.tick(seconds=20)
    await other.clock.set()
    await one.clock.set()
    ahead = [(len(each.clock.leaps), each.clock.steps) for each in (one, other)]
    lived = [round(each.clock.lived(began, clock()).total_seconds()) for each in (one, other)]
    clock.step(hours=-1)
    await one.clock.set()

    assert ahead == [(1, 1), (1, 1)]
    assert lived == [620, 620]
    assert one.clock() == clock()
    assert (len(one.clock.leaps), one.clock.steps) == (0, 2)
    assert one.clock.lived(began, clock()) == timedelta(seconds=620)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_process_started_after_a_failover_reads_the_leap(
    rt: Runtime, clock: Clock
) -> None:
    """Until others have recorded it, and after that, this process ends nothing too early."""
    before = await Process(rt, clock, timedelta(0)).begin()
    job = await submit(before.rt, a_request(deadline=timedelta(minutes=30)))
    clock.step(hours=1)
    begun = await Process(rt, clock, timedelta(0)).begin()
    clock.tick(seconds=1)
    await before.beat()
    await begun.beat()

    await Recovery(begun.rt).turn()

    assert begun.clock.leaps == before.clock.leaps
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.PENDING


@both_databases
async def test_the_time_and_its_leap_change_together(
    rt: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that runs while the leap is read must not count it as elapsed time."""
    process = await Process(rt, clock, timedelta(0)).begin()
    began, asked, answer = process.clock(), asyncio.Event(), asyncio.Event()

    async def leaps(db: Database) -> tuple[Leap, ...]:
        asked.set()
        await answer.wait()
        return await stored_leaps(db)

    clock.step(hours=1)
    await process.clock.steer()
    clock.tick(seconds=LOOKED_FOR_SECONDS)
    monkeypatch.setattr("fleek.store.clock.leaps", leaps)
    follow = process.clock.steer if rt.db.kind == "sqlite" else process.clock.set
    following = asyncio.create_task(follow())
    await asked.wait()
    meanwhile = process.clock.lived(began, process.clock())
    answer.set()
    await following

    assert process.clock() == clock()
    assert meanwhile == process.clock.lived(began, clock())
    assert meanwhile == timedelta(seconds=LOOKED_FOR_SECONDS)


@both_databases
async def test_a_deadline_counts_the_leaps_since_its_submission(rt: Runtime, clock: Clock) -> None:
    """Earlier leaps do not count, however many there are."""
    rt.clock.leaps = tuple(Leap(clock() - DAY * day, DAY) for day in range(1, 30))
    job = await submit(rt, a_request(deadline=timedelta(minutes=30)))
    clock.tick(minutes=5)
    clock.step(hours=1)
    rt.clock.leaps = (Leap(clock(), HOUR), *rt.clock.leaps)
    recovery = Recovery(rt)

    ends = []
    for minutes in (20, 6):
        clock.tick(minutes=minutes)
        await rt.lease.beat()
        await recovery.turn()
        ends.append((await jobs.get_any_tenant(rt.db, job.id)).status)

    assert ends == [Status.PENDING, Status.FAILED]


async def test_the_anchor_of_a_new_boot_is_shared_by_both_processes(
    rt: Runtime, clock: Clock
) -> None:
    """Their wall clocks are a day apart: the first to ask decides, until it has stood a minute."""
    await Process(rt, clock, timedelta(0)).begin()
    first = await Process(rt, clock, timedelta(0), boot="next").begin()
    second = await Process(rt, clock, DAY, boot="next").begin()

    clock.tick(seconds=30)

    assert first.clock() == second.clock() == clock()
    assert second.clock.ahead == DAY
    assert not first.clock.stable
    assert not second.clock.stable


@both_databases
@pytest.mark.parametrize("step", [DAY, -DAY], ids=str)
async def test_nothing_is_purged_before_its_retention_has_elapsed(
    rt: Runtime, provider: FakeProvider, clock: Clock, step: timedelta
) -> None:
    """A skipped day is no age for a retention of an hour, and a step back does no harm."""
    process = await Process(rt, clock, timedelta(0)).begin()
    kept = with_settings(process.rt, media_retention_days=1 / 24, metadata_retention_days=1 / 24)
    job = await completed(kept, provider)
    await _step(process, clock, step)
    expiry = Retention(kept)

    await expiry.turn()
    early = await left_of(rt, job.id)
    clock.tick(minutes=70 if step > timedelta(0) else 70 + 24 * 60)
    await expiry.turn()

    assert early == {"media", "metadata"}
    assert await left_of(rt, job.id) == set()


async def _step(process: Process, clock: Clock, step: timedelta) -> None:
    """Change the time that all processes use, on SQLite after the minute that it takes."""
    clock.step(days=step.days)
    await process.beat()
    await process.clock.steer()
    clock.tick(seconds=engine_clock.STANDS_SECONDS + 1)
    await process.clock.steer()
    assert process.clock() == clock()


@both_databases
async def test_skipped_time_is_no_age_for_the_purge_command(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fleek purge --older-than 1h` takes jobs that are older without the leap."""
    monkeypatch.setattr("fleek.telemetry.configure_logging", lambda **_: None)
    today = datetime.now(UTC)
    monkeypatch.setattr("fleek.store.clock.ask_postgres", ask_postgres)
    clock.time = today - timedelta(hours=26)
    old = await completed(rt, provider)
    clock.time = today - timedelta(hours=2)
    young = await completed(rt, provider)
    leap = {"at": today - timedelta(minutes=30), "skipped_seconds": DAY.total_seconds()}
    async with rt.db.write() as tx:
        await tx.execute(insert(ClockRow).values(leap))
    screen = Screen(as_json=True)

    await BulkPurge(rt.settings, screen, dry_run=False, ask=False).jobs(HOUR, None)

    assert await left_of(rt, young.id) == {"media", "metadata"}
    assert await left_of(rt, old.id) == set()
