"""The open database: reads and writes apart, errors in our words.

On SQLite there is one writer connection, and reads have connections of their own, so that they
never wait behind a commit. On PostgreSQL both are pools.
"""

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from fleek import strict
from fleek.domain.errors import ConfigurationError, DatabaseUnavailable, FleekError, StorageFull
from fleek.store.group import Flush, Group

Transaction = AsyncConnection
"""An open transaction, or for reads a connection; passed first to every query."""

Item = TypeVar("Item")
Result = TypeVar("Result")
GroupedWrite = Callable[[Transaction, Sequence[Item]], Awaitable[Sequence[Result | FleekError]]]

BUSY_SECONDS: Final = 10
POOL_SIZE: Final = 8
READERS: Final = 4
SAFE_SQLITE: Final = (3, 51, 3)  # before: a rare corruption race between writing processes


class Database:
    """Opens transactions, and lets concurrent callers share one."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine) -> None:
        self._writer = writer
        self._reader = reader
        self._groups: dict[Any, Group[Any, Any]] = {}
        self.kind = writer.dialect.name  # "sqlite" or "postgresql"

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """Open a transaction; it commits at the end, and rolls back on an error.

        Raises:
            DatabaseUnavailable: It cannot be reached, or is locked for too long.
            StorageFull: No room for another row.
        """
        with translated():
            async with self._writer.begin() as tx:
                yield tx

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """Open a connection that sees what is committed; each statement stands alone.

        Raises:
            DatabaseUnavailable: It cannot be reached.
        """
        with translated():
            async with self._reader.connect() as tx:
                yield tx

    async def grouped_write(self, write: GroupedWrite[Item, Result], item: Item) -> Result:
        """Run `write` for this item in a transaction that concurrent callers share.

        If the transaction breaks a constraint, each item is tried in one of its own, so that a
        bad one fails only its own caller.
        """
        group = self._groups.get(write)
        if group is None:
            lanes = 1 if self.kind == "sqlite" else 2
            group = self._groups[write] = Group(self._flusher(write), lanes=lanes)
        result: Result = await group.put(item)
        return result

    async def grouped_read(self, read: GroupedWrite[Item, Result], item: Item) -> Result:
        """Run `read` for this item on a connection that concurrent callers share."""
        group = self._groups.get(read)
        if group is None:

            async def flush(items: Sequence[Item]) -> Sequence[Result | FleekError]:
                async with self.read() as tx:
                    return await read(tx, items)

            group = self._groups[read] = Group(flush, lanes=2, limit=128)
        result: Result = await group.put(item)
        return result

    def _flusher(self, write: GroupedWrite[Item, Result]) -> Flush[Item, Result]:
        async def flush(items: Sequence[Item]) -> Sequence[Result | FleekError]:
            try:
                async with self.write() as tx:
                    return await write(tx, items)
            except (IntegrityError, DataError) as error:
                if len(items) == 1:
                    return [refused(error)]
            results: list[Result | FleekError] = []
            for item in items:
                results.extend(await flush([item]))
            return results

        return flush

    async def check(self) -> None:
        """Prove that a transaction can be committed now.

        Raises:
            DatabaseUnavailable: It cannot.
            StorageFull: No room for another row.
        """
        async with self.write() as tx:
            await tx.execute(text("UPDATE roles SET name = name WHERE name = 'check'"))

    async def facts(self) -> dict[str, str]:
        """Return what an operator should know: kind, version, durability, schema revision."""
        async with self.read() as tx:
            revision = await tx.scalar(text("SELECT version_num FROM alembic_version"))
            found = {"kind": self.kind, "revision": str(revision)}
            names = (
                {"journal_mode": "PRAGMA journal_mode", "version": "SELECT sqlite_version()"}
                if self.kind == "sqlite"
                else {
                    "version": "SHOW server_version",
                    "synchronous_commit": "SHOW synchronous_commit",
                    "fsync": "SHOW fsync",
                }
            )
            for name, statement in names.items():
                found[name] = str(await tx.scalar(text(statement)))
        if self.kind == "sqlite":
            async with self.write() as tx:
                found["synchronous"] = str(await tx.scalar(text("PRAGMA synchronous")))
        return found

    async def close(self) -> None:
        """Finish what was handed in, then close all connections."""
        for group in self._groups.values():
            await group.close()
        await self._writer.dispose()
        await self._reader.dispose()


class RowRefused(FleekError):
    """A constraint of the database forbids this row."""

    code = "row_refused"


def refused(error: DBAPIError) -> RowRefused:
    """Say which constraint was broken, in the driver's words, without the values."""
    return RowRefused(str(error.orig).partition("\n")[0])


@contextmanager
def translated() -> Generator[None]:
    """Translate the errors of the database and its drivers.

    Raises:
        DatabaseUnavailable: It cannot be reached, or is busy for too long.
        StorageFull: No room for another row.
    """
    try:
        yield
    except (IntegrityError, DataError, ProgrammingError):
        raise
    except DBAPIError as error:
        if "disk is full" in str(error.orig) or "No space left" in str(error.orig):
            raise StorageFull("the database has no room left") from error
        raise DatabaseUnavailable(f"the database does not answer: {refused(error)}") from error
    except (PoolTimeout, OSError) as error:
        raise DatabaseUnavailable(f"the database cannot be reached: {error}") from error


def database_url(setting: str) -> URL:
    """Read ``DATABASE_URL`` in any of its usual spellings.

    Raises:
        ConfigurationError: It names no database that we know.
    """
    try:
        url = make_url(setting)
    except ArgumentError:
        url = URL.create("none")
    kind = url.drivername.partition("+")[0]
    if kind in {"postgres", "postgresql"}:
        return url.set(drivername="postgresql+asyncpg")
    if kind == "sqlite" and url.database not in {None, "", ":memory:"}:
        return url.set(drivername="sqlite+aiosqlite")
    raise ConfigurationError(
        "DATABASE_URL: use sqlite:///./fleek.db or postgresql://user:password@host:5432/name"
    )


@asynccontextmanager
async def open_database(setting: str) -> AsyncGenerator[Database]:
    """Open the database that ``DATABASE_URL`` names; its schema is not looked at.

    Raises:
        ConfigurationError: The address names no database that we know.
    """
    url = database_url(setting)
    make = _sqlite if url.drivername.startswith("sqlite") else _postgres
    database = Database(*make(url))
    try:
        yield database
    finally:
        await database.close()


def _postgres(url: URL) -> tuple[AsyncEngine, AsyncEngine]:
    options: dict[str, Any] = {
        "pool_size": POOL_SIZE,
        "max_overflow": 0,
        "pool_timeout": BUSY_SECONDS,
        "pool_pre_ping": False,
        "json_serializer": _to_json,
        "connect_args": {"timeout": 5, "command_timeout": 30},
    }
    writer = create_async_engine(url, **options)
    reader = create_async_engine(url, isolation_level="AUTOCOMMIT", **options)
    return writer, reader


def _sqlite(url: URL) -> tuple[AsyncEngine, AsyncEngine]:
    options: dict[str, Any] = {
        "max_overflow": 0,
        "json_serializer": _to_json,
        "connect_args": {"timeout": BUSY_SECONDS},
    }
    # Callers queue for the writer here and are told to come back after 10 s, like a busy file.
    writer = create_async_engine(url, pool_size=1, pool_timeout=BUSY_SECONDS, **options)
    reader = create_async_engine(
        url, pool_size=READERS, isolation_level="AUTOCOMMIT", pool_reset_on_return=None, **options
    )
    event.listen(writer.sync_engine, "connect", _writer_connected)
    event.listen(writer.sync_engine, "begin", _begin_immediate)
    event.listen(reader.sync_engine, "connect", _reader_connected)
    return writer, reader


def _to_json(value: Any) -> str:
    return strict.dumps(value).decode()


def _writer_connected(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # an acknowledged job survives a loss of power
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _reader_connected(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _begin_immediate(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def sqlite_is_safe() -> bool:
    """Whether several processes may write to one SQLite file without a known risk."""
    return sqlite3.sqlite_version_info >= SAFE_SQLITE
