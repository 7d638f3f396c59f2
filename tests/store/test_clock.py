"""Processes agree on the time by asking PostgreSQL, or by the steady clock of their machine."""

from datetime import UTC, datetime, timedelta

from fleek.store import clock
from fleek.store.clock import Leap
from fleek.store.database import Database
from fleek.system_clock import steady_seconds, wall_time

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


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
    leapt = NOON + HOUR + timedelta(seconds=1.1)
    assert await clock.leaps(db) == (Leap(leapt, HOUR),)


async def test_a_leap_that_two_processes_note_is_one(db: Database) -> None:
    """Each sees it at its own next heartbeat."""
    await clock.note_leap(db, Leap(NOON, HOUR))

    await clock.note_leap(db, Leap(NOON + timedelta(seconds=5), HOUR))

    assert await clock.leaps(db) == (Leap(NOON, HOUR),)
