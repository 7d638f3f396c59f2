"""The open database: reads and writes apart, errors in our words.

On SQLite there is one writer connection, and reads have connections of their own, so that they
never wait behind a commit. On PostgreSQL both are pools.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar

import aiosqlite
from sqlalchemy import event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from fleek import failpoints, strict
from fleek.domain.errors import ConfigurationError, DatabaseUnavailable, FleekError
from fleek.store.address import database_url, dsn
from fleek.store.errors import is_busy, said, sqlstate, translated
from fleek.store.group import Group

Transaction = AsyncConnection
"""An open transaction, or for reads a connection; passed first to every query."""

Item = TypeVar("Item")
Result = TypeVar("Result")
GroupedWrite = Callable[[Transaction, Sequence[Item]], Awaitable[Sequence[Result | FleekError]]]

PATIENCE: Final = timedelta(seconds=10)
POOL_SIZE: Final = 8
READERS: Final = 4
NOT_NOW: Final = frozenset({"57P03", "53300"})  # PostgreSQL starts or stops; is full of clients
SESSION: Final = {
    "jit": "off",  # compiling costs more than any statement of ours
    "idle_in_transaction_session_timeout": "15000",  # ms; a frozen process holds up nobody longer
}
SAFE_SQLITE: Final = (3, 51, 3)  # before: a rare corruption race between writing processes


class Database:
    """Opens transactions, and lets concurrent callers share one."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine, *, address: str) -> None:
        self.address = address  # as configured, the password left out
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
            InvalidInput: A text or number that the database cannot hold.
            RowRefused: A constraint forbids a row.
        """
        with translated():
            async with self._writer.begin() as tx:
                yield tx
                failpoints.hit("database.commit")
            failpoints.hit("database.committed")

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

        If the transaction fails over what an item holds, it is tried again in halves, so that a
        bad item fails only its own caller.
        """
        group = self._groups.get(write)
        if group is None:

            async def flush(items: Sequence[Item]) -> Sequence[Result | FleekError]:
                async with self.write() as tx:
                    return await write(tx, items)

            lanes = 1 if self.kind == "sqlite" else 2
            group = self._groups[write] = Group(flush, lanes=lanes)
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


@asynccontextmanager
async def open_database(
    setting: str, *, patience: timedelta = PATIENCE
) -> AsyncGenerator[Database]:
    """Open the database that ``DATABASE_URL`` names; nothing is connected yet.

    `patience` is how long to wait for a connection, or on SQLite for whoever writes.

    Raises:
        ConfigurationError: The address names no database that we know.
    """
    url = database_url(setting)
    make = _sqlite if url.drivername.startswith("sqlite") else _postgres
    database = Database(*make(url, patience.total_seconds()), address=url.render_as_string())
    try:
        yield database
    finally:
        await database.close()


async def reach(db: Database) -> None:
    """Make sure, when a process starts, that the address is that of a database we may write to.

    Raises:
        ConfigurationError: It is not; the message is one line without the password.
        DatabaseUnavailable: It is, and cannot take us now.
    """
    try:
        async with db.write():
            pass
    except (DatabaseUnavailable, ProgrammingError) as error:
        cause = error.__cause__ or error
        if is_busy(cause) or sqlstate(cause) in NOT_NOW:
            raise
        raise ConfigurationError(f"DATABASE_URL={db.address}: {said(cause)}") from error


def _postgres(url: URL, patience: float) -> tuple[AsyncEngine, AsyncEngine]:
    async def connect() -> Any:
        import asyncpg  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, without types

        return await asyncpg.connect(
            dsn(url), timeout=5, command_timeout=30, server_settings=SESSION
        )

    options: dict[str, Any] = {
        "async_creator": connect,
        "pool_size": POOL_SIZE,
        "max_overflow": 0,
        "pool_timeout": patience,
        "json_serializer": _to_json,
    }
    bare = url.set(query={})
    writer = create_async_engine(bare, **options)
    reader = create_async_engine(bare, isolation_level="AUTOCOMMIT", **options)
    return writer, reader


def _sqlite(url: URL, patience: float) -> tuple[AsyncEngine, AsyncEngine]:
    async def connect() -> aiosqlite.Connection:
        connection = aiosqlite.connect(str(url.database), timeout=patience)
        thread = connection._thread  # noqa: SLF001 - nothing else shows it
        thread.daemon = True  # the process may end without it
        try:
            return await connection
        except BaseException:  # its thread has a last word for this loop, which may close soon
            await asyncio.to_thread(thread.join)
            raise

    options: dict[str, Any] = {
        "async_creator": connect,
        "max_overflow": 0,
        "pool_timeout": patience,
        "json_serializer": _to_json,
    }
    writer = create_async_engine(url, pool_size=1, **options)
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
