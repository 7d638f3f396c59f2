"""One wall clock is wrong, and according to the provider's ledger nothing is paid for twice.

Crossed: which process, since when, by how much, with callbacks or polling alone, on which database.
On SQLite each case meets a third of the shifts, so that any two of these meet. On PostgreSQL, half of
the cases meet half of the shifts. Each time responses are lost, a worker ends during a start, and
callbacks are lost, duplicated and replayed. In true time nothing is overdue: nothing may be cancelled,
and all jobs must complete, soon.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import pytest

from fakes import Clock
from fleek.domain.job import JobId, Status
from fleek.engine.runtime import Runtime
from fleek.store import jobs
from fleek.store.clock import Reading
from fleek.store.database import Database
from fleek.system_clock import Steady
from installation import CALLBACK_LOST, Callback, Installation, installed, prompt

ROLES: Final = ("api", "worker", "coordinator")
SINCES: Final = ("start", "crash", "step")
MINUTES, HOUR, DAY = timedelta(minutes=5), timedelta(hours=1), timedelta(days=1)
SHIFTS: Final = (-DAY, DAY, HOUR, -HOUR, -MINUTES, MINUTES)
RIGHT: Final = timedelta(0)
ENOUGH_TURNS: Final = 12  # ten minutes; half of that is needed if all clocks are right
JOBS: Final = 3
TERMINAL: Final = {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
CASES: Final = [
    (callbacks, role, since) for callbacks in (True, False) for role in ROLES for since in SINCES
]
SAMPLE: Final = [(True, "api", "step"), (True, "coordinator", "step"), (False, "worker", "crash")]
NAMES: Final = ("callbacks", "role", "since")


@pytest.fixture(autouse=True)
def _server_time(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Make PostgreSQL report the time of the test."""

    async def report(_: Database, steady: Steady) -> Reading:
        return Reading(clock(), steady())

    monkeypatch.setattr("fleek.store.clock.ask_postgres", report)


async def run_jobs(fleek: Installation, role: str, since: str, shift: timedelta) -> list[Status]:
    """Run some jobs while the clock of one process goes wrong, and return their final statuses."""
    if since == "start":
        await fleek.reboot(role, shift)
    else:
        getattr(fleek, role).wall.shift = RIGHT
    unreported = CALLBACK_LOST if shift > RIGHT else ""
    ids = await fleek.submit(f"[[emu:create_then_drop]] its answer is lost {unreported} {shift}")
    await fleek.turn()
    ids += await fleek.submit(f"its worker ends {shift}")
    await fleek.worker.crash_while_starting(ids[-1])
    await fleek.begin("worker", fleek.worker.wall.shift)
    if since == "crash":
        await fleek.begin(role, shift)
    getattr(fleek, role).wall.shift = shift
    ids += await fleek.submit(f"[[emu:create_reset]] submitted later, not created at once {shift}")
    return await ended(fleek, ids)


async def ended(fleek: Installation, ids: list[JobId]) -> list[Status]:
    """Take a limited number of turns until jobs have ended, and return their statuses."""
    for _ in range(ENOUGH_TURNS):
        await fleek.turn()
        found = await statuses(fleek, ids)
        if all(status in TERMINAL for status in found):
            return found
    return await statuses(fleek, ids)


async def statuses(fleek: Installation, ids: list[JobId]) -> list[Status]:
    """Return the status of each job."""
    return [(await jobs.get_any_tenant(fleek.shared.db, job_id)).status for job_id in ids]


async def replayed(fleek: Installation, shift: timedelta) -> tuple[list[Callback], list[Callback]]:
    """Replay old callbacks, including those that a wrong clock would accept as new.

    Returns which genuine callbacks were refused, and which old ones were accepted.
    """
    received, refused = list(dict.fromkeys(fleek.received)), fleek.refused
    fleek.received, fleek.refused = [], []
    fleek.clock.tick(seconds=max(abs(shift), MINUTES).total_seconds() + 60)
    for old in received:
        await fleek.receive(old)
    accepted = [one for one in received if one not in fleek.refused]
    fleek.received, fleek.refused = [], []
    return refused, accepted


async def survive(
    rt: Runtime,
    clock: Clock,
    shifts: Sequence[timedelta],
    *,
    callbacks: bool,
    role: str,
    since: str,
) -> None:
    """Go through these shifts one after the other, then check the ledger."""
    async with installed(rt, clock, callbacks=callbacks) as fleek:
        for one in ROLES:
            await fleek.begin(one)
        for shift in shifts:
            how = await run_jobs(fleek, role, since, shift)
            refused, accepted = await replayed(fleek, shift)

            assert (shift, how) == (shift, [Status.COMPLETED] * JOBS)
            assert (shift, refused, accepted) == (shift, [], [])
        predictions = fleek.emulator.account.predictions

    assert set(Counter(map(prompt, predictions)).values()) == {1}
    assert len(predictions) == JOBS * len(shifts)
    assert {(one.end, len(one.cancel_requests)) for one in predictions} == {("succeeded", 0)}


@pytest.mark.parametrize(NAMES, SAMPLE)
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_wrong_clock_costs_nothing(
    rt: Runtime, clock: Clock, *, callbacks: bool, role: str, since: str
) -> None:
    """A sample of the cases, on SQLite."""
    await survive(rt, clock, SHIFTS[3:4], callbacks=callbacks, role=role, since=since)


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize(NAMES, CASES)
async def test_no_wrong_clock_costs_anything(
    rt: Runtime, clock: Clock, *, callbacks: bool, role: str, since: str
) -> None:
    """On SQLite, whose time follows the machine's clock."""
    turn = ROLES.index(role) + SINCES.index(since) + callbacks
    await survive(rt, clock, SHIFTS[turn % 3 :: 3], callbacks=callbacks, role=role, since=since)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(NAMES, CASES[::2])  # each pair of these three
async def test_no_wrong_clock_costs_anything_on_postgresql(
    rt: Runtime, clock: Clock, *, callbacks: bool, role: str, since: str
) -> None:
    """With the time of the database server."""
    shifts = SHIFTS[1::2] if callbacks else SHIFTS[::2]
    await survive(rt, clock, shifts, callbacks=callbacks, role=role, since=since)
