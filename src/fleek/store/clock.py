"""What time it is for the database."""

from datetime import timedelta

from sqlalchemy import func, select

from fleek.store.database import Database
from fleek.system_clock import wall_time


async def clock_offset(db: Database) -> timedelta:
    """Return what to add to this process's clock to get PostgreSQL's; zero on SQLite.

    So that processes on several machines agree on what is due and who is silent. Exact to half
    of the time that the question takes.

    Raises:
        DatabaseUnavailable: It cannot be asked.
    """
    if db.kind == "sqlite":
        return timedelta(0)
    async with db.read() as tx:  # takes a connection; only then is it a question of time
        asked = wall_time()
        told = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
        answered = wall_time()
    offset: timedelta = told - (asked + (answered - asked) / 2)
    return offset
