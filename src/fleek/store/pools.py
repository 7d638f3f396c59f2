"""The connections to a database: how many, how each is opened, and what it is told first.

On SQLite there is one writer connection, and reads have connections of their own, so that they
never wait behind a commit. On PostgreSQL writers and readers are pools of the same size.
"""

import sqlite3
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from fleek import strict
from fleek.store.address import dsn
from fleek.store.sqlite import Connection

POOL_SIZE: Final = 8
READERS: Final = 4
SESSION: Final = {
    "jit": "off",  # compiling costs more than any statement of ours
    "idle_in_transaction_session_timeout": "15000",  # ms; a frozen process holds up nobody longer
}
SAFE_SQLITE: Final = (3, 51, 3)  # before: a rare corruption race between writing processes


def make_pools(url: URL, patience: timedelta) -> tuple[AsyncEngine, AsyncEngine]:
    """Return the pools for writers and for readers; nothing is connected yet.

    `patience` is how long to wait for a connection, or on SQLite for whoever writes.
    """
    make = _sqlite if url.drivername.startswith("sqlite") else _postgres
    return make(url, patience)


def sqlite_is_safe() -> bool:
    """Whether several processes may write to one SQLite file without a known risk."""
    return sqlite3.sqlite_version_info >= SAFE_SQLITE


def _postgres(url: URL, patience: timedelta) -> tuple[AsyncEngine, AsyncEngine]:
    async def connect() -> Any:
        import asyncpg  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, without types

        return await asyncpg.connect(
            dsn(url), timeout=5, command_timeout=30, server_settings=SESSION
        )

    options: dict[str, Any] = {
        "async_creator": connect,
        "pool_size": POOL_SIZE,
        "max_overflow": 0,
        "pool_timeout": patience.total_seconds(),
        "json_serializer": _to_json,
    }
    bare = url.set(query={})
    writer = create_async_engine(bare, **options)
    reader = create_async_engine(bare, isolation_level="AUTOCOMMIT", **options)
    return writer, reader


def _sqlite(url: URL, patience: timedelta) -> tuple[AsyncEngine, AsyncEngine]:
    def open_file() -> sqlite3.Connection:
        return sqlite3.connect(str(url.database), timeout=patience.total_seconds())

    async def connect() -> Connection:
        return await Connection(open_file).opened()

    options: dict[str, Any] = {
        "async_creator": connect,
        "max_overflow": 0,
        "pool_timeout": patience.total_seconds(),
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
