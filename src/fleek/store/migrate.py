"""Bring the schema up to date, one process at a time.

First the migrations, in one transaction; then the indexes that are missing. PostgreSQL builds those
concurrently: the other processes, of the previous release or of this one, go on writing.
"""

import asyncio
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, inspect, text

from fleek.domain.errors import ConfigurationError
from fleek.domain.host_errors import host_errors
from fleek.store.database import Database, open_database, reach
from fleek.store.event_stream import realign
from fleek.store.tables import INDEXES, Index, declared

MIGRATION_LOCK: Final = 0x666C65656B  # "fleek"; any number that no other program uses
INDEX_LOCK: Final = MIGRATION_LOCK + 1
VALID: Final = {  # names of the indexes that are complete, and of those that are not
    "sqlite": "SELECT name, true FROM sqlite_master WHERE type = 'index'",
    "postgresql": (
        "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
        " WHERE relnamespace = current_schema()::regnamespace"
    ),
}
OF_SEARCH: Final = ("job_words", "job_numbers", "ix_jobs_words")
"""What one of the two databases has alone; see `fleek.store.search`."""
HERE: Final = Path(__file__).parent / "migrations"


def upgrade(setting: str) -> str:
    """Bring the schema of the database that ``DATABASE_URL`` names up to date.

    Returns the revision reached. For the command line: runs an event loop of its own.
    """

    async def run() -> str:
        async with open_database(setting) as db:
            await reach(db)
            return await migrate(db)

    return asyncio.run(run())


async def migrate(db: Database) -> str:
    """Bring the schema up to date, under a lock, and build missing indexes; returns the revision.

    Raises:
        ConfigurationError: The schema is newer than this program.
        DatabaseUnavailable: The database cannot be reached.
    """
    missing: list[Index] = []
    if not await _is_current(db):
        missing = await _migrate(db)
    if db.kind == "postgresql":
        if missing:
            await _build_concurrently(db)
        async with db.write() as tx:  # by one of the indexes it takes a moment
            await realign(tx)
    return revisions()[-1]


async def _is_current(db: Database) -> bool:
    """Whether there is nothing to do, as at most starts; asked without a lock."""
    async with db.read() as tx:
        if await tx.run_sync(_revision) != revisions()[-1]:
            return False
        valid = dict(map(tuple, await tx.execute(text(VALID[db.kind]))))
    return not _missing(valid, db.kind)


async def _migrate(db: Database) -> list[Index]:
    """Run the migrations that are due; returns the indexes that are missing still."""
    async with db.lasting_write() as tx:  # on SQLite the transaction itself is the lock
        if db.kind == "postgresql":
            # another process may migrate
            await tx.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": MIGRATION_LOCK})
        await tx.run_sync(_upgrade)
        valid = dict(map(tuple, await tx.execute(text(VALID[db.kind]))))
        missing = _missing(valid, db.kind)
        if db.kind == "sqlite":
            for index in missing:  # in their order: of two that fit, SQLite takes the later one
                await tx.execute(text(index.statement()))
            missing = []
    return missing


async def _build_concurrently(db: Database) -> None:
    """Build the missing indexes of PostgreSQL, unless another process does.

    A session holds the lock: a transaction would hold a snapshot, which a build waits for.
    """
    async with db.session() as session:
        if not await session.lock(INDEX_LOCK):
            return
        valid = dict(await session.fetch(VALID[db.kind]))
        for index in _missing(valid, "postgresql"):
            if index.name in valid:  # an earlier build was interrupted
                await session.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}")
            await session.execute(index.statement(concurrently=True))


def _missing(valid: Mapping[str, bool], dialect: str) -> list[Index]:
    """Return the indexes that are not there, or not complete."""
    wanted = (index for index in INDEXES if index.is_for(dialect))
    return [index for index in wanted if not valid.get(index.name)]


async def up_to_date(db: Database) -> bool:
    """Whether the schema is the one that this program wants.

    Raises:
        ConfigurationError: The schema is newer than this program.
    """
    async with db.read() as tx:
        return await tx.run_sync(_revision) == revisions()[-1]


def _upgrade(connection: Connection, head: str | None = None) -> str:
    head = head or revisions()[-1]
    if _revision(connection) != head:
        from alembic import command  # noqa: PLC0415 - heavy, and most starts find nothing to do
        from alembic.config import Config  # noqa: PLC0415 - likewise

        config = Config()
        config.set_main_option("script_location", str(HERE).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, head)
    return head


def _revision(connection: Connection) -> str | None:
    """Return the schema's revision, None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if revision is not None and revision not in revisions():
        raise ConfigurationError(
            f"DATABASE_URL: the schema has revision {revision}, which this version of fleek does "
            "not know; start the version that made it, or a newer one"
        )
    return revision


@cache
def revisions() -> tuple[str, ...]:
    """Return every revision, the latest last: the files are named by it.

    Raises:
        HostError: The files cannot be listed now, as without a file descriptor.
    """
    with host_errors("list the schema migrations"):
        names = [path.name for path in (HERE / "versions").iterdir()]
    found = sorted(name.partition("_")[0] for name in names if name[0].isdigit())
    if not found:
        raise ConfigurationError(f"{HERE / 'versions'} holds no migrations; install fleek again")
    return tuple(found)


def autogenerate(connection: Connection) -> Any:
    """Return the differences between the schema and the tables; none are expected."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - only tests need it
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - likewise

    options = {"include_object": lambda _, name, *__: not name.startswith(OF_SEARCH)}
    return compare_metadata(MigrationContext.configure(connection, opts=options), declared())
