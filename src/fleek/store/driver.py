"""Statements straight on the driver's connection of an open transaction.

SQLAlchemy opens, lends and ends transactions, and raises errors; what it does for a single statement
takes longer than a small statement runs. Here are only those parts of it that matter: its transaction
on PostgreSQL begins with the first statement, what is prepared is kept with it, those who listen to
its statements hear of these, too, and an error goes the way of its own errors: it marks spoilt
connections, and `translated` knows it.
"""

# ruff: noqa: SLF001 - SQLAlchemy has no public way to its drivers that passes its cursors by

from collections.abc import Sequence
from typing import Any, Final, NoReturn

from sqlalchemy import Connection

from fleek.store.connections import AsyncConnection
from fleek.store.sqlite import Connection as SqliteConnection

Row = Sequence[Any]

STALE: Final = ("InvalidCachedStatementError", "InternalServerError")
"""Errors of the adapter, after which everything that PostgreSQL has prepared is prepared again."""


async def fetch(tx: AsyncConnection, sql: str, values: Sequence[Any]) -> Sequence[Row]:
    """Run a statement and return its rows as the driver gives them.

    Raises:
        DBAPIError: The database refuses, as from `tx.execute`.
    """
    connection = tx.sync_connection
    adapted: Any = connection.connection.dbapi_connection
    tell(connection, sql, values)
    try:
        driver = adapted.driver_connection
        if isinstance(driver, SqliteConnection):
            found: Sequence[Row] = await driver.fetch(sql, values)
        else:
            found = await _fetch_postgres(connection.dialect, adapted, sql, values)
    except BaseException as error:  # noqa: BLE001 - raised again, as SQLAlchemy would
        await _fail(tx, adapted, sql, error)
    return found


async def execute_many(tx: AsyncConnection, sql: str, values: Sequence[Sequence[Any]]) -> None:
    """Run a statement for each set of values.

    Raises:
        DBAPIError: The database refuses, as from `tx.execute`.
    """
    connection = tx.sync_connection
    adapted: Any = connection.connection.dbapi_connection
    tell(connection, sql, values, many=True)
    try:
        driver = adapted.driver_connection
        if isinstance(driver, SqliteConnection):
            await driver.execute_many(sql, values)
        else:
            await _execute_many_postgres(connection.dialect, adapted, sql, values)
    except BaseException as error:  # noqa: BLE001 - raised again, as SQLAlchemy would
        await _fail(tx, adapted, sql, error)


def tell(connection: Connection, sql: str, values: Sequence[Any], *, many: bool = False) -> None:
    """Let those hear of a statement who count or capture the statements of its pool."""
    listeners: Any = connection.engine.dispatch.before_cursor_execute
    for listen in listeners:
        listen(connection, None, sql, values, None, many)


async def _fetch_postgres(
    dialect: Any, adapted: Any, sql: str, values: Sequence[Any]
) -> Sequence[Row]:
    """Do as the cursor of SQLAlchemy's adapter does, but without what describes the rows."""
    async with adapted._execute_mutex:
        if adapted._transaction is None:
            await adapted._start_transaction()
        statement, _ = await adapted._prepare(sql, dialect._invalidate_schema_cache_asof)
        found: Sequence[Row] = await statement.fetch(*values)
    return found


async def _execute_many_postgres(
    dialect: Any, adapted: Any, sql: str, values: Sequence[Sequence[Any]]
) -> None:
    async with adapted._execute_mutex:
        await adapted._check_type_cache_invalidation(dialect._invalidate_schema_cache_asof)
        if adapted._transaction is None:
            await adapted._start_transaction()
        await adapted._connection.executemany(sql, values)


async def _fail(tx: AsyncConnection, adapted: Any, sql: str, error: BaseException) -> NoReturn:
    await tx.run_sync(fail, adapted, sql, error)
    raise AssertionError("an error has not been raised")  # pragma: no cover


def fail(connection: Connection, adapted: Any, sql: str, error: BaseException) -> NoReturn:
    """Raise what SQLAlchemy raises if one of its statements fails in this way; in a greenlet."""
    try:
        if isinstance(error, Exception):
            adapted._handle_exception(error)  # makes the adapter's own error of the driver's
        raise error  # noqa: TRY301 - with its traceback, as if it had been raised there
    except BaseException as raised:  # noqa: BLE001 - also that its caller went away
        dialect: Any = connection.dialect
        if isinstance(raised, tuple(getattr(dialect.loaded_dbapi, name, ()) for name in STALE)):
            dialect._invalidate_schema_cache()
        refused = isinstance(raised, dialect.loaded_dbapi.Error)
        connection._handle_dbapi_exception(raised, sql if refused else None, None, None, None)
