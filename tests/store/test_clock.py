"""Processes on several machines agree on the time by asking PostgreSQL."""

from datetime import timedelta

from fleek.store.clock import clock_offset
from fleek.store.database import Database


async def test_on_one_machine_the_clocks_agree(db: Database) -> None:
    """To the time that the question takes."""
    offset = await clock_offset(db)

    assert abs(offset) < timedelta(seconds=0.5)


async def test_sqlite_has_no_clock_of_its_own(db: Database) -> None:
    """There the process's clock is the only one; PostgreSQL's is hardly ever the same."""
    offset = await clock_offset(db)

    assert (offset == timedelta(0)) == (db.kind == "sqlite")
