"""Connection pools: what all pools of a process share, and what happens at the end."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NoReturn

import pytest
from sqlalchemy import Executable, literal, select, text

from backing_services import both_databases
from fleek import store
from fleek.domain.errors import DatabaseUnavailable
from fleek.store import database
from fleek.store.database import Database, open_database
from fleek.store.pools import STATEMENTS
from fleek.store.prepared import Query, Write
from fleek.store.sqlite import Connection


async def test_a_statement_is_compiled_once_for_all_pools(tmp_path: Path) -> None:
    """Writer, readers and every further database of this kind share the compiled form."""
    statement = select(literal(1).label("asked_nowhere_else"))
    compiled = set()

    for name in ("a", "b"):
        async with open_database(f"sqlite:///{tmp_path}/{name}.db") as db:
            async with db.write() as tx:
                assert await tx.scalar(statement) == 1
            async with db.read() as tx:
                assert await tx.scalar(statement) == 1
        compiled |= {id(one) for one in STATEMENTS.values() if "asked_nowhere_else" in str(one)}

    assert len(compiled) == 1


async def test_only_a_lasting_write_has_temporary_files(tmp_path: Path) -> None:
    """What a statement would undo is kept in memory; what a migration sorts may not fit there."""
    asked = text("PRAGMA temp_store")

    async with open_database(f"sqlite:///{tmp_path}/a.db") as db:
        async with db.write() as tx:
            usual = await tx.scalar(asked)
        async with db.lasting_write() as tx:
            lasting = await tx.scalar(asked)

    assert (usual, lasting) == (2, 0)  # memory, as SQLite was compiled


async def test_a_caller_who_comes_while_the_database_closes_does_not_disturb_it(
    tmp_path: Path,
) -> None:
    """The tasks of a service may end after its database, and the process must stop with code 0."""
    under_way, may_end = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, items: Sequence[int]) -> Sequence[int]:
        under_way.set()
        await may_end.wait()
        return items

    async def another(_: Any, items: Sequence[int]) -> Sequence[int]:
        return items

    async with open_database(f"sqlite:///{tmp_path}/a.db") as db:
        early = asyncio.create_task(db.grouped_read(slow, 1))
        await under_way.wait()
        closing = asyncio.create_task(db.close())
        await asyncio.sleep(0)  # it waits for the first caller
        late = asyncio.create_task(db.grouped_read(another, 2))
        await asyncio.sleep(0)
        may_end.set()
        await closing

        assert (await early, await late) == (1, 2)


def is_open(connection: Any) -> bool:
    """Return whether a driver's connection is open."""
    if hasattr(connection, "is_closed"):  # asyncpg's
        return not connection.is_closed()
    try:
        return connection.in_transaction is not None
    except ValueError:  # aiosqlite's way to say it
        return False


@both_databases
@pytest.mark.parametrize("kind", ["read", "write"])
async def test_a_connection_that_stays_in_use_at_the_end_is_closed_when_it_returns(
    database_url: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else would close it: the tasks of a service may end after its database."""
    monkeypatch.setattr(database, "RETURN_SECONDS", 0.0)

    async def opened(db: Database) -> tuple[AsyncExitStack, Any]:
        stack = AsyncExitStack()
        tx = await stack.enter_async_context(db.read() if kind == "read" else db.write())
        return stack, tx.sync_connection.connection.driver_connection

    async with open_database(database_url) as db:
        early, opened_before = await opened(db)
    was_open = is_open(opened_before)
    await early.aclose()
    late, opened_after = await opened(db)
    await late.aclose()

    assert was_open
    assert not is_open(opened_before)
    assert not is_open(opened_after)


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_the_end_waits_for_a_connection_in_use(tmp_path: Path, kind: str) -> None:
    """So that SQLite has closed the file properly when the process ends: no log is beside it."""
    lent, may_return = asyncio.Event(), asyncio.Event()

    async def use(db: Database) -> None:
        async with db.read() if kind == "read" else db.write() as tx:
            await tx.execute(text("SELECT 1"))
            lent.set()
            await may_return.wait()

    async with open_database(f"sqlite:///{tmp_path}/a.db") as db:
        async with db.write() as tx:
            await tx.execute(text("CREATE TABLE facts (fact TEXT)"))
        using = asyncio.create_task(use(db))
        await lent.wait()
        closing = asyncio.create_task(db.close())
        asyncio.get_running_loop().call_later(0.05, may_return.set)
        await closing
        files = await asyncio.to_thread(os.listdir, tmp_path)
        await using

    assert files == ["a.db"]


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_the_end_does_not_wait_for_a_connection_that_could_not_be_opened(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service whose database is away would stop late."""
    opening, may_fail = asyncio.Event(), asyncio.Event()

    async def fail(_connection: Connection) -> NoReturn:
        opening.set()
        await may_fail.wait()
        raise OSError("it is away")

    async def use(db: Database) -> None:
        async with db.read() if kind == "read" else db.write():
            pass

    monkeypatch.setattr(Connection, "opened", fail)
    monkeypatch.setattr(database, "RETURN_SECONDS", 3600)
    async with open_database(f"sqlite:///{tmp_path}/a.db") as db, asyncio.timeout(20):
        using = asyncio.create_task(use(db))
        await opening.wait()
        closing = asyncio.create_task(db.close())
        await asyncio.sleep(0)
        may_fail.set()
        await closing
        failed = await asyncio.gather(using, return_exceptions=True)

    assert [type(error) for error in failed] == [DatabaseUnavailable]


def test_every_statement_is_compiled_once() -> None:
    """One that has no key in the cache is compiled each time: 0.5 ms of each commit, unnoticed."""
    modules = [
        import_module(f"fleek.store.{found.name}") for found in iter_modules(store.__path__)
    ]
    statements: dict[str, Any] = {
        f"{module.__name__}.{name}": getattr(value, "statement", value)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Executable | Query | Write)
    }

    uncached = [
        name for name, statement in statements.items() if statement._generate_cache_key() is None
    ]

    assert len(statements) > 50
    assert uncached == []
