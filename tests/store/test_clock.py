"""Processes agree on the time by the clock of PostgreSQL, or by their machine's steady clock."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from fleek.domain.job import Job, Status
from fleek.store import clock, jobs
from fleek.store.clock import Leap
from fleek.store.database import Database
from fleek.system_clock import steady_seconds, wall_time
from samples import a_job

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR, HALF = timedelta(hours=1), timedelta(minutes=30)
LONG_AGO = NOON - timedelta(days=300)


def a_wall_clock() -> datetime:
    """Return noon."""
    return NOON


async def test_on_one_machine_the_clocks_agree(db: Database) -> None:
    """Within the duration of the query."""
    if db.kind == "sqlite":
        reading = await clock.drop_anchor(db, "boot", wall=wall_time, steady=steady_seconds)
    else:
        reading = await clock.ask_postgres(db, steady_seconds)

    apart = reading.later(steady_seconds()) - wall_time()
    assert abs(apart) < timedelta(seconds=5)


async def test_an_anchor_holds_until_the_machine_restarts(db: Database) -> None:
    """The wall clock of the next process does not matter."""
    first = await clock.drop_anchor(db, "boot", wall=a_wall_clock, steady=lambda: 10.0)

    again = await clock.drop_anchor(db, "boot", wall=lambda: NOON + HOUR, steady=lambda: 11.0)
    after = await clock.drop_anchor(db, "next", wall=lambda: NOON + HOUR, steady=lambda: 1.0)

    assert again == first
    assert again.later(11.0) == NOON + timedelta(seconds=1)
    assert after.at == NOON + HOUR
    assert await clock.anchor(db, "boot") is None
    assert await clock.restarted(db, "next")


async def test_a_moved_anchor_may_be_a_leap(db: Database) -> None:
    """Small moves are not recorded, and neither are steps back."""
    await clock.drop_anchor(db, "boot", wall=a_wall_clock, steady=lambda: 10.0)

    await clock.move_anchor(db, "boot", by=timedelta(seconds=0.1), leaps=False, steady=10.0)
    await clock.move_anchor(db, "boot", by=HOUR, leaps=True, steady=11.0)
    await clock.move_anchor(db, "boot", by=-HOUR, leaps=True, steady=12.0)

    moved = await clock.anchor(db, "boot")
    assert moved is not None
    assert moved.later(10.0) == NOON + timedelta(seconds=0.1)
    assert moved.later(12.0) == NOON + timedelta(seconds=2.1)
    assert await clock.leaps(db) == ()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_leap_observed_by_many_processes_is_recorded_once(db: Database) -> None:
    """They may all observe it at once, or one of them much later."""
    at = NOON + HOUR
    at_once = (
        clock.note_step(db, at + timedelta(seconds=one / 10), by=HOUR, since=NOON)
        for one in range(8)
    )
    await asyncio.gather(*at_once)

    late = at + timedelta(minutes=20)
    await clock.note_step(db, late, by=HOUR, since=NOON - timedelta(minutes=1))
    (noted,) = await clock.leaps(db)
    await clock.note_step(db, late + HALF, by=HALF, since=late)

    assert noted.skipped == HOUR
    assert await clock.leaps(db) == (Leap(late + HALF, HALF), noted)


@pytest.mark.parametrize("back", [HOUR, timedelta(minutes=5), timedelta(days=1)], ids=str)
async def test_a_step_back_reduces_the_skipped_time(db: Database, back: timedelta) -> None:
    """Otherwise the deadlines of new jobs would be too late."""
    await clock.drop_anchor(db, "boot", wall=a_wall_clock, steady=lambda: 0.0)
    leapt = NOON + HOUR + timedelta(seconds=60)
    returned = leapt + timedelta(seconds=60) - back
    if db.kind == "sqlite":
        await clock.move_anchor(db, "boot", by=HOUR, leaps=True, steady=60.0)
        await clock.move_anchor(db, "boot", by=-back, leaps=True, steady=120.0)
    else:
        await clock.note_step(db, leapt, by=HOUR, since=NOON)
        for _ in range(2):
            await clock.note_step(db, returned, by=-back, since=leapt)

    left = HOUR - back
    assert await clock.leaps(db) == ((Leap(returned, left),) if left > timedelta(0) else ())


@pytest.mark.parametrize(
    ("job", "kept"),
    [
        (None, False),
        (a_job(created_at=LONG_AGO - HOUR), True),
        (a_job(created_at=LONG_AGO + HOUR), False),
        (a_job(status=Status.FAILED, completed_at=LONG_AGO - HOUR), True),
        (a_job(status=Status.FAILED, completed_at=LONG_AGO + HOUR), False),
    ],
    ids=["no job", "older live job", "younger live job", "earlier end", "later end"],
)
async def test_a_leap_without_affected_jobs_is_removed(
    db: Database, job: Job | None, *, kept: bool
) -> None:
    """With the next leap, so that the table does not grow for ever."""
    if job is not None:
        await jobs.insert_job(db, job)
    await _leap(db, LONG_AGO)

    await _leap(db, NOON)

    old, new = Leap(LONG_AGO, HOUR), Leap(NOON, HOUR)
    assert await clock.leaps(db) == ((new, old) if kept else (new,))


async def _leap(db: Database, at: datetime) -> None:
    """Record a leap of the time to `at`, in the way of each database."""
    if db.kind == "postgresql":
        await clock.note_step(db, at, by=HOUR, since=at - HOUR)
        return
    await clock.drop_anchor(db, "boot", wall=lambda: at - HOUR, steady=lambda: 0.0)
    found = await clock.anchor(db, "boot")
    assert found is not None
    await clock.move_anchor(
        db, "boot", by=HOUR, leaps=True, steady=(at - HOUR - found.at).total_seconds()
    )
