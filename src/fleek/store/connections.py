"""A connection of SQLAlchemy, as `asyncio` uses it: the part of its own that Fleek needs.

`sqlalchemy.ext.asyncio` has the same beside its sessions, and imports the ORM for these: a twentieth of the
start of a process.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, CursorResult, Dialect, Executable
from sqlalchemy.engine import ScalarResult
from sqlalchemy.util import greenlet_spawn

T = TypeVar("T")


class AsyncConnection:
    """A lent connection. Each call runs in a greenlet; the drivers' cursors hold all rows once they have run."""

    def __init__(self, sync_connection: Connection) -> None:
        self.sync_connection: Final = sync_connection

    @property
    def dialect(self) -> Dialect:
        """The kind of database."""
        return self.sync_connection.dialect

    async def execute(
        self, statement: Executable, parameters: Any = None
    ) -> CursorResult[*tuple[Any, ...]]:
        """Run a statement, once, or for each set of parameters.

        Raises:
            DBAPIError: The database refuses.
        """
        return await greenlet_spawn(self.sync_connection.execute, statement, parameters)

    async def exec_driver_sql(
        self, statement: str, parameters: Any = None
    ) -> CursorResult[*tuple[Any, ...]]:
        """Run a statement in the driver's own words, see `execute`."""
        return await greenlet_spawn(self.sync_connection.exec_driver_sql, statement, parameters)

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        """Return the first column of the first row; None if there is no row."""
        return (await self.execute(statement, parameters)).scalar()

    async def scalars(self, statement: Executable, parameters: Any = None) -> ScalarResult[Any]:
        """Return the first column of each row."""
        return (await self.execute(statement, parameters)).scalars()

    async def run_sync(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call `work` with the connection, for what waits without `await`."""
        result: T = await greenlet_spawn(work, self.sync_connection, *arguments)
        return result
