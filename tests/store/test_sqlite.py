"""Connections to SQLite: the number of visits to their thread, and cancelled callers."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fleek.store.sqlite import Connection


class Counting(Connection):
    """Counts its visits."""

    visits = 0

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        self.visits += 1
        return await super()._execute(fn, *args, **kwargs)


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncGenerator[Counting]:
    """Yield an open connection to a file with one table of three rows."""
    opened = await Counting(
        lambda: sqlite3.connect(
            tmp_path / "a.db", timeout=60, isolation_level=None, check_same_thread=False
        )
    ).opened()
    await opened.cursor().execute("CREATE TABLE numbers (number INTEGER)")
    await opened.cursor().executemany("INSERT INTO numbers VALUES (?)", [(1,), (2,), (3,)])
    opened.visits = 0
    yield opened
    await opened.close()


async def test_a_statement_is_one_visit(connection: Counting) -> None:
    """A visit costs about as much as a small statement."""
    cursor = await connection.cursor().execute("SELECT number FROM numbers WHERE number > ?", (1,))
    found = await cursor.fetchall()

    assert found == [(2,), (3,)]
    assert [column[0] for column in cursor.description] == ["number"]
    assert connection.visits == 1


async def test_changed_rows_are_counted(connection: Counting) -> None:
    """The number shows whether a row still was in the expected state."""
    cursor = await connection.cursor().execute("UPDATE numbers SET number = 9 WHERE number > 1")

    assert cursor.rowcount == 2
    assert cursor.description is None
    assert await cursor.fetchall() == ()


async def test_a_statement_in_place_makes_no_visit(connection: Counting) -> None:
    """Within a transaction it waits for nothing, and a visit costs more than the statement."""
    await connection.cursor().execute("BEGIN IMMEDIATE")
    with connection.in_place():
        await connection.cursor().execute("UPDATE numbers SET number = 9 WHERE number > 1")
        found = await (
            await connection.cursor().execute("SELECT number FROM numbers ORDER BY number")
        ).fetchall()
    await connection.commit()

    assert found == [(1,), (9,), (9,)]
    assert connection.visits == 2  # BEGIN and COMMIT, which wait


async def test_a_free_file_is_written_to_without_a_visit(connection: Counting) -> None:
    """BEGIN waits for nobody then; only COMMIT waits, for the disk."""
    await connection.begin()
    with connection.in_place():
        await connection.execute_many("INSERT INTO numbers VALUES (?)", [(4,)])
        found = await connection.fetch("SELECT count(*) FROM numbers", ())
    await connection.commit()

    assert found == [(4,)]
    assert connection.visits == 1


async def test_a_read_in_place_makes_no_visit(connection: Counting) -> None:
    """In its journal a reader waits for no writer."""
    with connection.in_place():
        found = await connection.fetch("SELECT number FROM numbers WHERE number > ?", (2,))

    assert found == [(3,)]
    assert connection.visits == 0


@pytest.mark.parametrize("kind", ["begin", "read"])
async def test_what_is_locked_is_waited_for_in_the_thread(
    connection: Counting, tmp_path: Path, kind: str
) -> None:
    """The event loop goes on meanwhile, and the lock is waited for as long as before."""
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with connection.in_place():
            asked = (
                connection.begin()
                if kind == "begin"
                else connection.fetch("SELECT 1 FROM numbers", ())
            )
            waiting = asyncio.create_task(asked)
            while not connection.visits:
                await asyncio.sleep(0)
            assert not waiting.done()
            other.execute("COMMIT")
            await waiting

    (patience,) = (await connection.fetch("PRAGMA busy_timeout", ()))[0]
    assert patience == 60_000


async def test_a_statement_waits_for_what_a_cancelled_caller_has_left(
    connection: Counting,
) -> None:
    """Two threads at once would mix their statements, or hold up the event loop."""
    begun, may_end = threading.Event(), threading.Event()

    def slow(opened: sqlite3.Connection) -> None:
        begun.set()
        may_end.wait()
        opened.execute("DELETE FROM numbers")

    caller = asyncio.create_task(connection.visit(slow))
    await asyncio.to_thread(begun.wait)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    with connection.in_place():
        counting = asyncio.create_task(connection.cursor().execute("SELECT count(*) FROM numbers"))
        await asyncio.sleep(0)
        may_end.set()
        found = await (await counting).fetchall()

    assert found == [(0,)]


async def test_the_thread_is_visited_no_more_once_it_has_done_what_was_left(
    connection: Counting,
) -> None:
    """A connection to read from is never rolled back: one cancelled caller would make it slow for good."""
    caller = asyncio.create_task(connection.visit(lambda _file: None))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    connection.visits = 0

    with connection.in_place():
        for _ in range(3):
            await connection.fetch("SELECT count(*) FROM numbers", ())

    assert connection.visits == 1


async def test_an_answer_of_a_cancelled_caller_holds_no_lock(
    connection: Counting, tmp_path: Path
) -> None:
    """A closed file keeps its lock as long as there is a statement of it: what returns is no cursor."""
    await connection.begin()
    done = threading.Event()
    asked = connection.execute_many("INSERT INTO numbers VALUES (?)", [(4,)])
    caller = asyncio.create_task(asked)
    await asyncio.sleep(0)
    connection._tx.put_nowait((None, done.set))
    done.wait()
    await asyncio.sleep(0)  # the answer is here, and its caller about to go on
    caller.cancel()
    kept = await asyncio.gather(caller, return_exceptions=True)  # with what its frames hold
    await connection.close()

    with closing(sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
    assert isinstance(kept[0], asyncio.CancelledError)


async def test_a_text_that_is_none_is_an_error_in_place_too(connection: Counting) -> None:
    """Python's own error about it has no code of SQLite's."""
    await connection.execute_many("UPDATE numbers SET number = CAST(? AS TEXT)", [(b"\xff",)])

    with connection.in_place(), pytest.raises(sqlite3.OperationalError, match="UTF-8"):
        await connection.fetch("SELECT number FROM numbers", ())


async def test_an_error_is_raised_to_the_caller(connection: Counting) -> None:
    """The connection stays usable."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await connection.cursor().execute("SELECT * FROM letters")

    assert await (await connection.cursor().execute("SELECT 1")).fetchall() == [(1,)]


async def test_a_rollback_without_a_transaction_makes_no_visit(connection: Counting) -> None:
    """Each use of a connection ends with a rollback, and most have no open transaction."""
    await connection.cursor().execute("SELECT 1")

    await connection.rollback()

    assert connection.visits == 1


async def test_an_open_transaction_is_rolled_back(connection: Counting) -> None:
    """An error in the middle of a transaction leaves no change."""
    await connection.cursor().execute("BEGIN")
    await connection.cursor().execute("DELETE FROM numbers")

    await connection.rollback()

    assert await (
        await connection.cursor().execute("SELECT count(*) FROM numbers")
    ).fetchall() == [(3,)]


async def test_a_cancelled_begin_leaves_no_open_transaction(
    connection: Counting, tmp_path: Path
) -> None:
    """It may open after the cancellation, and would then block all writers."""
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = threading.Event()
        caller = asyncio.create_task(connection.visit(_begin(begun)))
        await asyncio.to_thread(begun.wait)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        undone = asyncio.create_task(connection.rollback())
        other.execute("COMMIT")
        await undone
        await connection.cursor().execute("SELECT 1")  # a pending transaction has opened by now

        other.execute("PRAGMA busy_timeout=0")
        other.execute("BEGIN IMMEDIATE")
        other.execute("COMMIT")


def _begin(begun: threading.Event) -> Callable[[sqlite3.Connection], None]:
    def work(connection: sqlite3.Connection) -> None:
        begun.set()
        connection.execute("BEGIN IMMEDIATE")

    return work


async def test_a_failed_open_leaves_no_thread(tmp_path: Path) -> None:
    """Its last message would reach a closed loop."""
    before = threading.active_count()

    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        await Connection(lambda: sqlite3.connect(tmp_path / "missing" / "a.db")).opened()

    assert threading.active_count() <= before + 1  # the waiting thread stays in its pool
