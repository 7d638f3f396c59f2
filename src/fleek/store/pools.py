"""Connection pools: their sizes, how connections are opened, and their initial settings.

On SQLite there is one writer connection, and reads have connections of their own, so that they
never wait behind a commit. On PostgreSQL writers and readers are pools of the same size. What one
pool has compiled to SQL, no other pool of the process compiles again.
"""

import json
import sqlite3
import time
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection as SyncConnection
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.util import LRUCache, await_only

from fleek import strict
from fleek.store.driver import fail, tell
from fleek.store.errors import is_spoilt
from fleek.store.sqlite import BEGIN, Connection

POOL_SIZE: Final = 8
READERS: Final = 4
READ_PATIENCE: Final = timedelta(seconds=5)  # for a free connection to read from
SAFE_SQLITE: Final = (3, 51, 3)  # before: a rare corruption race between writing processes


class Statements(LRUCache[tuple[Any, ...], Any]):
    """Compiled statements, which depend on the kind of database and not on the pool that asks."""

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        """Return a statement; `key` begins with the pool's dialect."""
        return super().get((type(key[0]), *key[1:]), default)

    def __setitem__(self, key: tuple[Any, ...], value: Any) -> None:
        super().__setitem__((type(key[0]), *key[1:]), value)


STATEMENTS: Final = Statements(500)  # as many as SQLAlchemy keeps for each engine


def make_pools(url: URL, patience: timedelta, *, lasting: bool = False) -> tuple[Engine, Engine]:
    """Return the pools for writers and for readers; nothing is connected yet.

    `patience` is how long to wait for a connection, or on SQLite for another writer; `lasting`:
    statements may take hours.
    """
    if url.drivername.startswith("sqlite"):
        writer, reader = _sqlite(url, patience)
        if not lasting:
            event.listen(writer, "connect", _undo_in_memory)
    else:
        writer, reader = _postgres(url, patience, lasting=lasting)
    _renew_when_spoilt(writer, reader)
    return writer, reader


def sqlite_is_safe() -> bool:
    """Whether several processes may write to one SQLite file without a known risk."""
    return sqlite3.sqlite_version_info >= SAFE_SQLITE


def _postgres(url: URL, patience: timedelta, *, lasting: bool) -> tuple[Engine, Engine]:
    from fleek.store import postgres  # noqa: PLC0415 - an extra

    limit = postgres.LONG_SECONDS if lasting else postgres.COMMAND_SECONDS
    connector = postgres.Connector(url, command_seconds=limit)

    def connect() -> Any:
        """Connect, once more if a pooler was found that the first way does not suit."""
        dbapi = writer.dialect.loaded_dbapi
        while True:
            try:
                return dbapi.connect(async_creator_fn=connector.connect, **connector.adaptation)
            except postgres.PoolerFound:
                continue  # once: it knows now

    def connected(connection: Any, _record: Any) -> None:
        connection.autocommit = not connector.pooled

    options: dict[str, Any] = {
        "creator": connect,
        "pool_size": POOL_SIZE,
        "max_overflow": 0,
        "json_serializer": _to_json,
        "json_deserializer": _from_json,
        "execution_options": {"compiled_cache": STATEMENTS},
    }
    bare = url.set(query={})
    seconds = (
        connector.connect_seconds or 0
    )  # a free connection is waited for as long as a new one
    writer_timeout = max(patience.total_seconds(), seconds)
    reader_timeout = max(_read_patience(patience), seconds)
    writer: Engine = create_engine(bare, pool_timeout=writer_timeout, **options)
    reader = create_engine(bare, pool_timeout=reader_timeout, **options)
    event.listen(reader, "connect", connected)
    return writer, reader


def _sqlite(url: URL, patience: timedelta) -> tuple[Engine, Engine]:
    def open_file() -> sqlite3.Connection:
        return sqlite3.connect(
            str(url.database),
            timeout=patience.total_seconds(),
            check_same_thread=False,  # two threads use it, one after the other: see `in_place`
        )

    async def opened() -> Connection:
        return await Connection(open_file).opened()

    def connect() -> Any:
        return writer.dialect.loaded_dbapi.connect(async_creator_fn=opened)

    options: dict[str, Any] = {
        "creator": connect,
        "max_overflow": 0,
        "json_serializer": _to_json,
        "json_deserializer": _from_json,
        "execution_options": {"compiled_cache": STATEMENTS},
    }
    writer: Engine = create_engine(
        url, pool_size=1, pool_timeout=patience.total_seconds(), **options
    )
    reader = create_engine(
        url,
        pool_size=READERS,
        pool_timeout=_read_patience(patience),
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
        **options,
    )
    event.listen(writer, "connect", _writer_connected)
    event.listen(writer, "begin", _begin_immediate)
    event.listen(reader, "connect", _reader_connected)
    return writer, reader


def _read_patience(patience: timedelta) -> float:
    return min(patience, READ_PATIENCE).total_seconds()


def _renew_when_spoilt(*engines: Engine) -> None:
    """Replace every connection once one has failed in a way that the others will fail, too.

    A server that has become a replica, a file that has been replaced or made read-only: what is
    connected to it stays so, and would be lent out again and again.
    """
    spoilt_at = float("-inf")  # monotonic

    def failed(context: ExceptionContext) -> None:
        nonlocal spoilt_at
        if is_spoilt(context.original_exception):
            context.is_disconnect = True
            spoilt_at = time.monotonic()

    def connected(_connection: Any, record: Any) -> None:
        record.info["connected_at"] = time.monotonic()

    def lent(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info["connected_at"] <= spoilt_at:
            raise DisconnectionError("connected before another connection was found broken")

    for engine in engines:
        event.listen(engine, "handle_error", failed)
        event.listen(engine, "connect", connected)
        event.listen(engine, "checkout", lent)


def _to_json(value: Any) -> str:
    if value == {}:  # as are most metadata, and what most events hold
        return "{}"
    return strict.dumps(value).decode()


def _from_json(text: str) -> Any:
    return {} if text == "{}" else json.loads(text)


def _writer_connected(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # an acknowledged job survives a loss of power
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _undo_in_memory(connection: Any, _record: Any) -> None:
    """Keep in memory what a statement would undo if it failed, and not in a file.

    A submission changes twenty pages, and with a file it writes them a second time: a tenth of its cost.
    """
    cursor = connection.cursor()
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.close()


def _reader_connected(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _begin_immediate(connection: SyncConnection) -> None:
    adapted: Any = connection.connection.dbapi_connection
    tell(connection, BEGIN, ())
    try:
        await_only(adapted.driver_connection.begin())
    except BaseException as error:  # noqa: BLE001 - raised again, as SQLAlchemy would
        fail(connection, adapted, BEGIN, error)
