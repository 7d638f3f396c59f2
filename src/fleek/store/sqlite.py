"""Connections to SQLite that visit their thread once for a statement, or only where they wait.

SQLite blocks, so `aiosqlite` gives each connection a thread. A visit costs about as much as a
small statement, and as the library stands a statement takes four: a cursor is opened, runs, is
read and is closed. Here one visit does all of it. Statements of a group visit no thread at all:
see `in_place`.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Self

import aiosqlite

from fleek.store.connections import AsyncConnection

Row = tuple[Any, ...]
Work = Callable[[sqlite3.Connection], Any]
"""Returns no cursor: while one is left, even a closed file keeps the lock of its transaction."""

BEGIN: Final = "BEGIN IMMEDIATE"


class Connection(aiosqlite.Connection):
    """A connection for SQLAlchemy; what it does not call is left as it was."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._file: sqlite3.Connection | None = None

        def open_file() -> sqlite3.Connection:
            self._file = connect()
            return self._file

        super().__init__(open_file, iter_chunk_size=64)
        self._thread.daemon = True  # the process may end without it
        self._left_behind = False  # whether something may run on for a caller who went away
        self._in_place = False
        self._patience: int | None = None  # milliseconds, for another connection

    async def opened(self) -> Self:
        """Connect.

        Raises:
            sqlite3.Error: It cannot; its thread has ended then.
        """
        try:
            await self
        except BaseException:  # its thread has a last word for this loop, which may close soon
            await asyncio.to_thread(self._thread.join)
            raise
        return self

    def stop(self) -> asyncio.Future[Any] | None:
        """End the thread, and close in it what it has opened, also for a caller who went away."""
        self._tx.put_nowait((None, self._close_file))
        return super().stop()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()

    def cursor(self) -> "Cursor":  # type: ignore[override] # not a coroutine here
        """Return a cursor that has not run yet."""
        return Cursor(self)

    async def visit(self, work: Work) -> Any:
        """Run `work` in the connection's thread; it runs even if its caller goes away."""
        return await self._execute(work, self._conn)

    @contextmanager
    def in_place(self) -> Generator[None]:
        """Run the statements of the block where they are called; see the function of this name."""
        self._in_place = True
        try:
            yield
        finally:
            self._in_place = False

    async def fetch(self, sql: str, values: Sequence[Any]) -> list[Row]:
        """Run a statement and return its rows."""
        found: list[Row] = await self.run(lambda file: file.execute(sql, values).fetchall())
        return found

    async def execute_many(self, sql: str, values: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each set of values."""
        await self.run(lambda file: file.executemany(sql, values).close())

    async def begin(self) -> None:
        """Begin a transaction that writes: at once, unless another connection writes now."""
        await self._at_once(lambda file: file.execute(BEGIN).close())

    async def run(self, work: Work) -> Any:
        """Run a statement, in the connection's thread or in place."""
        if not self._in_place:
            return await self.visit(work)
        if self._conn.in_transaction and not self._left_behind:
            return work(self._conn)
        return await self._at_once(work)

    async def _at_once(self, work: Work) -> Any:
        """Run in place what is short, unless it has to wait for another connection."""
        file = self._conn
        if self._left_behind:
            return await self.visit(work)
        if self._patience is None:
            (self._patience,) = file.execute("PRAGMA busy_timeout").fetchone()
        file.execute("PRAGMA busy_timeout=0")
        try:
            return work(file)
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0)  # Python's own errors have none
            if code & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        finally:
            file.execute(f"PRAGMA busy_timeout={self._patience}")
        return await self.visit(work)

    async def rollback(self) -> None:
        """Undo what is open; a connection on which nothing is open is not visited."""
        if self._left_behind or self._conn.in_transaction:
            await super().rollback()

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            answer = await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call] # the library's
        except asyncio.CancelledError:
            self._left_behind = True
            raise
        self._left_behind = False  # the thread has done before what it was asked before
        return answer


class Cursor:
    """What SQLAlchemy asks of a cursor. Its rows are here as soon as it has run."""

    arraysize: ClassVar[int] = 1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: Sequence[Row] = ()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Self:
        """Return the cursor itself; it holds nothing open."""
        return self

    async def close(self) -> None:
        """Do nothing: `execute` leaves nothing open."""

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Self:
        """Run a statement and take all its rows."""
        return await self._run(lambda connection: connection.execute(sql, parameters))

    async def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> Self:
        """Run a statement for each set of parameters."""
        return await self._run(lambda connection: connection.executemany(sql, parameters))

    async def fetchall(self) -> Sequence[Row]:
        """Return the rows."""
        return self._rows

    async def _run(self, start: Callable[[sqlite3.Connection], sqlite3.Cursor]) -> Self:
        def work(connection: sqlite3.Connection) -> None:
            """Execute the statement and read all of its rows, in the thread of the connection."""
            cursor = start(connection)
            try:
                self.description = cursor.description
                self._rows = cursor.fetchall() if cursor.description else ()
                self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid
            finally:
                cursor.close()

        await self._connection.run(work)
        return self


@contextmanager
def in_place(tx: AsyncConnection) -> Generator[None]:
    """Run the statements of the block in the caller's thread: those of a group, found by their keys.

    Each takes tens of microseconds, a visit of a thread a hundred, as it hands the interpreter over and
    back. What waits stays in the connection's thread: BEGIN if another process writes, and COMMIT
    and ROLLBACK, which wait for the disk; callers gather meanwhile. Under the lock that BEGIN has taken
    a statement waits for nothing but pages that are not in memory; nor does a read, which needs no lock
    but in rare moments: then it goes on in the thread.
    """
    connection = tx.sync_connection.connection.driver_connection
    assert isinstance(connection, Connection)
    with connection.in_place():
        yield
