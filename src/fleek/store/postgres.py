"""Connections to PostgreSQL, also through a pooler that lends them for a transaction each.

Such a pooler (PgBouncer, and what Neon, Supabase and others put before their servers) takes no
settings at the start of a session, and forgets what a session has prepared. It is recognised by
the server's process, which is not the one that the pooler names; then settings are given with each
transaction, nothing is prepared under a name, and reads have transactions, too.

Source: https://www.pgbouncer.org/features.html and https://www.pgbouncer.org/config.html
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]  # it ships no types
from asyncpg.transaction import Transaction  # type: ignore[import-untyped]  # likewise
from sqlalchemy.engine import URL

from fleek.domain.errors import DatabaseUnavailable
from fleek.store.address import postgres_address
from fleek.store.errors import driver_message

COMMAND_SECONDS: Final = 30
LONG_SECONDS: Final = 24 * 60 * 60  # for what may take long, such as the build of an index
SESSION: Final[Mapping[str, str]] = {
    "jit": "off",  # compiling costs more than any statement of ours
    "idle_in_transaction_session_timeout": "15000",  # ms; a frozen process holds its locks no longer
    "lock_timeout": "500",  # ms; then the caller is asked to retry
    "statement_timeout": "25000",  # ms; before we stop listening
}
UNPREPARED: Final[Mapping[str, Any]] = {
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": str,  # unnamed: replaced by the next one
}


class PoolerFound(Exception):
    """There is a pooler between: connect once more, in its way."""


class Connector:
    """Connects to the server that an address names; knows whether there is a pooler between.

    Beyond `command_seconds` the client listens no longer for the answer to a statement.
    """

    def __init__(self, url: URL, *, command_seconds: float = COMMAND_SECONDS) -> None:
        address = postgres_address(url)
        self._dsn = address.dsn
        self._settings = {**SESSION, **address.settings}
        self.connect_seconds = address.connect_seconds
        self.pooled = address.pooled
        self._command_seconds = command_seconds

    @property
    def adaptation(self) -> Mapping[str, Any]:
        """How SQLAlchemy is to use the next connection."""
        return UNPREPARED if self.pooled else {}

    async def connect(self) -> Any:
        """Return an open connection.

        Raises:
            PoolerFound: The next attempt will be made in another way.
        """
        if self.pooled:
            connection = await self._open(
                statement_cache_size=0, connection_class=PooledConnection
            )
            connection.settings = self._settings
            return connection
        try:
            connection = await self._open(server_settings=self._settings)
        except asyncpg.ProtocolViolationError as error:
            if "startup parameter" not in str(error):
                raise
            raise self._found() from error
        try:
            direct = await _is_direct(connection)
        except BaseException:
            connection.terminate()
            raise
        if direct:
            return connection
        await connection.close()
        raise self._found()

    def _found(self) -> PoolerFound:
        self.pooled = True
        return PoolerFound("a pooler is between")

    async def _open(self, **options: Any) -> Any:
        return await asyncpg.connect(
            self._dsn,
            timeout=self.connect_seconds,
            command_timeout=self._command_seconds,
            **options,
        )


class Session:
    """A connection whose statements are transactions of their own, and may take long."""

    def __init__(self, connection: Any, *, pooled: bool) -> None:
        self._connection = connection
        self._pooled = pooled

    async def lock(self, number: int) -> bool:
        """Take an advisory lock until the session ends; False if another session has it.

        Behind a pooler there is no such lock, as the server's session outlives ours: True.
        """
        statement = "SELECT pg_try_advisory_lock($1)"
        return self._pooled or bool(await self._connection.fetchval(statement, number))

    async def fetch(self, statement: str) -> Sequence[tuple[Any, Any]]:
        """Return the rows of a statement that gives two columns."""
        return [tuple(row) for row in await self._connection.fetch(statement)]

    async def execute(self, statement: str) -> None:
        """Run a statement."""
        await self._connection.execute(statement, timeout=LONG_SECONDS)


@asynccontextmanager
async def open_session(connector: Connector) -> AsyncGenerator[Session]:
    """Open a session without limits of time, but those that a pooler's server has of its own.

    Raises:
        DatabaseUnavailable: It cannot be opened, or a statement failed.
    """
    try:
        try:
            connection = await connector.connect()
        except PoolerFound:
            connection = await connector.connect()
        try:
            if not connector.pooled:
                await connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
            yield Session(connection, pooled=connector.pooled)
        finally:
            connection.terminate()
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        raise DatabaseUnavailable(f"the database refuses: {driver_message(error)}") from error


async def _is_direct(connection: Any) -> bool:
    """Whether the server process is the one that accepted the connection."""
    async with connection.transaction():
        found = await connection.fetchval("SELECT pg_backend_pid()")
    return bool(found == connection.get_server_pid())


class PooledConnection(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    """A connection whose server process may be another one in each transaction."""

    __slots__ = ("settings",)
    settings: Mapping[str, str]

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        """Return a transaction that brings its settings along."""
        return _Transaction(self, isolation, readonly, deferrable)


class _Transaction(Transaction):  # type: ignore[misc]  # it has no types
    async def start(self) -> None:
        """Begin, and set what other connections have set for good."""
        await super().start()
        calls = (
            f"set_config({_quoted(name)}, {_quoted(value)}, true)"
            for name, value in self._connection.settings.items()
        )
        try:
            await self._connection.execute("SELECT " + ", ".join(calls))
        except BaseException:
            await self.rollback()
            raise


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
