"""Opening and ending transactions and connections of a pool: one greenlet for each.

SQLAlchemy's own context managers take a greenlet for every step, and a task for the last one, which
together take as long as the statements of a small transaction.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.util import greenlet_spawn

from fleek.store.connections import AsyncConnection


@asynccontextmanager
async def begun(engine: Engine) -> AsyncGenerator[AsyncConnection]:
    """Open a transaction; it commits at the end, and rolls back on an error."""
    connection: Connection = await greenlet_spawn(_begin, engine)
    try:
        yield AsyncConnection(connection)
    except BaseException as error:
        await _finish(_end, connection, error)
        raise
    await greenlet_spawn(_end, connection, None)


@asynccontextmanager
async def lent(engine: Engine) -> AsyncGenerator[AsyncConnection]:
    """Lend a connection."""
    connection: Connection = await greenlet_spawn(engine.connect)
    try:
        yield AsyncConnection(connection)
    except BaseException:
        await _finish(connection.close)
        raise
    if _has_begun(connection):
        await _finish(connection.close)
    else:
        await greenlet_spawn(connection.close)


def _has_begun(connection: Connection) -> bool:
    """Whether there may be a transaction, whose end is waited for: reads have one behind a pooler."""
    if connection.closed or connection.invalidated:
        return False
    adapted: Any = connection.connection.dbapi_connection
    return not connection.dialect.detect_autocommit_setting(adapted)


def _begin(engine: Engine) -> Connection:
    connection = engine.connect()
    try:
        connection.begin().__enter__()
    except BaseException:
        connection.close()
        raise
    return connection


def _end(connection: Connection, error: BaseException | None) -> None:
    try:
        transaction = connection.get_transaction()
        if transaction is not None:
            transaction.__exit__(error and type(error), error, None)
    finally:
        connection.close()


async def _finish(end: Callable[..., None], *arguments: Any) -> None:
    """End what has failed, even if its caller goes away meanwhile."""
    await asyncio.shield(asyncio.create_task(greenlet_spawn(end, *arguments)))
