"""The open database: transactions, reads, grouped reads and writes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from sqlalchemy import Engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import greenlet_spawn

from fleek import failpoints
from fleek.domain.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    FleekError,
    WriteUnknown,
)
from fleek.store.address import database_url
from fleek.store.batcher import Batcher, Begin, Requests
from fleek.store.connections import AsyncConnection
from fleek.store.errors import (
    check_descriptors,
    driver_message,
    has_answered,
    is_temporary,
    is_unreachable,
    translated,
)
from fleek.store.pools import make_pools
from fleek.store.sqlite import in_place
from fleek.store.transactions import begun, lent

if TYPE_CHECKING:
    from fleek.store.postgres import Session  # an extra

Transaction = AsyncConnection
"""An open transaction, or for reads a connection; passed first to every query."""

Item = TypeVar("Item")
Result = TypeVar("Result")
GroupedWrite = Callable[[Transaction, Sequence[Item]], Awaitable[Sequence[Result | FleekError]]]

PATIENCE: Final = timedelta(seconds=10)
RETURN_SECONDS: Final = 2.0  # at the end, for connections in use
IN_PLACE: Final = 64
"""Short items that are read or inserted at once on the event loop, in some ten milliseconds unless they are large.

In a thread each row hands the interpreter over and back: beside a busy worker, 32 submissions took
14 ms there, and 4 in place. With more of them, all requests would wait for too long.
"""


class Reads(Protocol):
    """Where reads are made: the database, or one connection for several, see `Database.reads`."""

    def read(self, *, short: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """Give a connection; see `Database.read`."""
        ...


class _Lent:
    """A connection for reads that follow each other."""

    def __init__(self, tx: Transaction, *, kind: str) -> None:
        self._tx = tx
        self._kind = kind

    @asynccontextmanager
    async def read(self, *, short: bool = False) -> AsyncIterator[Transaction]:
        """Give the connection."""
        with in_place(self._tx) if short and self._kind == "sqlite" else nullcontext():
            yield self._tx


class Database:
    """Opens transactions, and lets concurrent callers share one."""

    def __init__(self, writer: Engine, reader: Engine, *, url: URL) -> None:
        self.address = url.render_as_string()  # as configured, the password left out
        self._url = url
        self._writer = writer
        self._reader = reader
        self._groups: dict[Any, Batcher[Any, Any]] = {}
        self._requests = Requests()
        self.kind = writer.dialect.name  # "sqlite" or "postgresql"
        self.file = Path(str(url.database)) if self.kind == "sqlite" else None
        self._closed = False
        self._back = asyncio.Event()
        for engine in (writer, reader):
            event.listen(engine, "checkin", self._returned)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """Open a transaction; it commits at the end, and rolls back on an error.

        Raises:
            DatabaseUnavailable: It cannot be reached, or refuses; nothing is written.
            Overloaded: The same, since a lock or other work is in the way for too long.
            WriteUnknown: It was cut off while it committed.
            StorageFull: No room for another row.
            InvalidInput: A text or number that the database cannot hold.
            RowRefused: A constraint forbids a row.
        """
        committing = False
        try:
            with translated():
                async with begun(self._writer) as tx:
                    yield tx
                    failpoints.hit("database.commit")
                    committing = True
                failpoints.hit("database.committed")
        except DatabaseUnavailable as error:
            if committing and not has_answered(error.__cause__):
                raise WriteUnknown(str(error)) from error.__cause__
            raise
        finally:
            self._back.set()  # also if none could be opened, of which no pool tells

    @asynccontextmanager
    async def read(self, *, short: bool = False) -> AsyncIterator[Transaction]:
        """Open a connection that sees what is committed; each statement stands alone.

        `short`: they find few rows by an index, see `in_place`.

        Raises:
            DatabaseUnavailable: It cannot be reached.
        """
        async with self.reads() as reads, reads.read(short=short) as tx:
            yield tx

    @asynccontextmanager
    async def reads(self) -> AsyncIterator[Reads]:
        """Open one connection for reads that follow each other; raises as `read` does.

        To lend one and to take it back takes as long as a short read. Nothing else may be waited for
        meanwhile: there are few.
        """
        try:
            with translated():
                async with lent(self._reader) as tx:
                    yield _Lent(tx, kind=self.kind)
        finally:
            self._back.set()  # see `write`

    @asynccontextmanager
    async def lasting_write(self) -> AsyncIterator[Transaction]:
        """Open a transaction like `write`, whose statements may take hours, as a migration's may.

        It has a connection of its own, closed at the end: on PostgreSQL without any limit of time, on
        SQLite one that sorts in files, as an index of millions of rows may not fit into memory.
        """
        apart = Database(*make_pools(self._url, PATIENCE, lasting=True), url=self._url)
        limits = ("lock", "statement", "idle_in_transaction_session")
        try:
            async with apart.write() as tx:
                for limit in limits if self.kind == "postgresql" else ():
                    await tx.exec_driver_sql(f"SET LOCAL {limit}_timeout = 0")
                yield tx
        finally:
            await apart.close()

    @asynccontextmanager
    async def session(self) -> "AsyncIterator[Session]":
        """Open a session of PostgreSQL for statements outside any transaction, without time limit.

        Raises:
            DatabaseUnavailable: It cannot be opened, or one of its statements failed.
        """
        from fleek.store.postgres import Connector, open_session  # noqa: PLC0415 - an extra

        async with open_session(Connector(self._url)) as session:
            yield session

    async def grouped_write(
        self,
        write: GroupedWrite[Item, Result],
        item: Item,
        *,
        patience: timedelta | None = None,
        yields: bool = False,
        most_in_place: int = 0,
    ) -> Result:
        """Run `write` for this item in a transaction that concurrent callers share.

        If the transaction fails over what an item holds, it is tried again in halves, so that a
        bad item fails only its own caller. `patience`: how long the item may wait for its turn;
        None: as long as it takes. `yields`: no request waits for it, so it lets those of requests by.
        `most_in_place`: so many items at most are written on the event loop, see the function of this name;
        their statements find few rows by their keys.

        Raises:
            Overloaded: Its turn did not come in time, or a lock was in the way: it is not written.
            WriteUnknown: It may be written.
        """
        shards = 1 if self.kind == "sqlite" else 2
        group = self._group(
            write, self.write, most_in_place=most_in_place, shards=shards, requests=self._requests
        )
        result: Result = await group.put(item, patience=patience, yields=yields)
        return result

    async def grouped_read(
        self, read: GroupedWrite[Item, Result], item: Item, *, short: bool = False
    ) -> Result:
        """Run `read` for this item on a connection that concurrent callers share.

        `short`: its statements find few rows by their keys, see `in_place`.
        """
        most = IN_PLACE if short else 0
        result: Result = await self._group(read, self.read, most_in_place=most, limit=128).put(
            item
        )
        return result

    def _group(
        self, act: GroupedWrite[Any, Any], begin: Begin, *, most_in_place: int, **options: Any
    ) -> Batcher[Any, Any]:
        if act not in self._groups:
            flush = (
                _in_place(act, most_in_place) if most_in_place and self.kind == "sqlite" else act
            )
            self._groups[act] = Batcher(begin, flush, **options)
        return self._groups[act]

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
        """Finish what was handed in, then close all connections.

        Those in use are waited for; one that does not return in time is closed when it does. A process that
        ended before would leave SQLite's log beside the file, for its next start to read.
        """
        for group in list(self._groups.values()):  # late callers may begin others meanwhile
            await group.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(RETURN_SECONDS):
                await self._all_returned()
        self._closed = True
        await greenlet_spawn(self._writer.dispose)
        await greenlet_spawn(self._reader.dispose)

    async def _all_returned(self) -> None:
        pools: Any = [self._writer.pool, self._reader.pool]
        while any(pool.checkedout() for pool in pools):
            self._back.clear()
            await self._back.wait()

    def _returned(self, _connection: Any, record: ConnectionPoolEntry) -> None:
        self._back.set()
        if self._closed:
            record.close()  # no pool closes it any more


@asynccontextmanager
async def open_database(
    setting: str, *, patience: timedelta = PATIENCE
) -> AsyncGenerator[Database]:
    """Open the database that ``DATABASE_URL`` names; nothing is connected yet.

    `patience` is how long to wait for a connection, or on SQLite for another writer.

    Raises:
        ConfigurationError: The address names no database that we know.
    """
    url = database_url(setting)
    writer, reader = make_pools(url, patience)
    database = Database(writer, reader, url=url)
    try:
        yield database
    finally:
        await database.close()


async def reach(db: Database, *, unreachable_is_temporary: bool = False) -> None:
    """Make sure, when a process starts, that the address is that of a database we may write to.

    A database that answers and cannot take us now (it starts, stops, is full of clients, only
    reads) is temporarily unavailable; so is one that cannot be reached at all, if the caller says.

    Raises:
        ConfigurationError: The address is wrong; the message is one line without the password.
        DatabaseUnavailable: It cannot take us now.
        ResourcesExhausted: This process has no file descriptors left to open it with.
    """
    try:
        async with db.write():
            pass
    except (DatabaseUnavailable, ProgrammingError) as error:
        cause = error.__cause__ or error
        check_descriptors()  # SQLite only says that it cannot open the file
        if is_temporary(cause) or (unreachable_is_temporary and is_unreachable(cause)):
            raise
        raise ConfigurationError(f"DATABASE_URL={db.address}: {driver_message(cause)}") from error


def _in_place(write: GroupedWrite[Item, Result], most: int) -> GroupedWrite[Item, Result]:
    """Return what runs the statements of so many items in place."""

    async def act(tx: Transaction, items: Sequence[Item]) -> Sequence[Result | FleekError]:
        """Run them on the event loop if they are few, else in the connection's thread."""
        with in_place(tx) if len(items) <= most else nullcontext():
            return await write(tx, items)

    return act
