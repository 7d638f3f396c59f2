"""Processes agree on the time by asking PostgreSQL, or by the steady clock of their machine."""

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
    """Show noon."""
    return NOON


async def test_on_one_machine_the_clocks_agree(db: Database) -> None:
    """To the time that the question takes."""
    if db.kind == "sqlite":
        reading = await clock.drop_anchor(db, "boot", wall=wall_time, steady=steady_seconds)
    else:
        reading = await clock.ask_postgres(db, steady_seconds)

    apart = reading.later(steady_seconds()) - wall_time()
    assert abs(apart) < timedelta(seconds=5)


async def test_an_anchor_holds_until_the_machine_restarts(db: Database) -> None:
    """Whatever the wall clock of the next process shows."""
    first = await clock.drop_anchor(db, "boot", wall=a_wall_clock, steady=lambda: 10.0)

    again = await clock.drop_anchor(db, "boot", wall=lambda: NOON + HOUR, steady=lambda: 11.0)
    after = await clock.drop_anchor(db, "next", wall=lambda: NOON + HOUR, steady=lambda: 1.0)

    assert again == first
    assert again.later(11.0) == NOON + timedelta(seconds=1)
    assert after.at == NOON + HOUR
    assert await clock.anchor(db, "boot") is None
    assert await clock.restarted(db, "next")


async def test_a_moved_anchor_may_be_a_leap(db: Database) -> None:
    """Small moves are not remembered, nor are steps back as time that was skipped."""
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
async def test_a_leap_that_many_processes_see_is_one(db: Database) -> None:
    """All at once when the server is back, or one of them much later."""
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
async def test_what_a_step_back_undoes_was_not_skipped(db: Database, back: timedelta) -> None:
    """Else whatever begins now would end by as much too late."""
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
async def test_a_leap_that_concerns_no_job_is_forgotten(
    db: Database, job: Job | None, *, kept: bool
) -> None:
    """When the next one is noted: the table does not grow with the years."""
    if job is not None:
        await jobs.insert_job(db, job)
    await _leap(db, LONG_AGO)

    await _leap(db, NOON)

    old, new = Leap(LONG_AGO, HOUR), Leap(NOON, HOUR)
    assert await clock.leaps(db) == ((new, old) if kept else (new,))


async def _leap(db: Database, at: datetime) -> None:
    """Let the time leap ahead to `at`, as each database notes it."""
    if db.kind == "postgresql":
        await clock.note_step(db, at, by=HOUR, since=at - HOUR)
        return
    await clock.drop_anchor(db, "boot", wall=lambda: at - HOUR, steady=lambda: 0.0)
    found = await clock.anchor(db, "boot")
    assert found is not None
    await clock.move_anchor(
        db, "boot", by=HOUR, leaps=True, steady=(at - HOUR - found.at).total_seconds()
    )
