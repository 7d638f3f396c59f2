"""What time it is for the database."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from fleek.store.database import Database


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
        asked = datetime.now(UTC)
        told = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
        answered = datetime.now(UTC)
    offset: timedelta = told - (asked + (answered - asked) / 2)
    return offset
