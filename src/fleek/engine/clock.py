"""What time it is, for all processes on one database alike."""

from datetime import datetime, timedelta

from fleek.store.clock import clock_offset
from fleek.store.database import Database
from fleek.system_clock import wall_time


class Clock:
    """This process's clock, put right by the database's whenever it is asked."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._offset = timedelta(0)

    def __call__(self) -> datetime:
        """Return the time, aware, in UTC."""
        return wall_time() + self._offset

    async def set(self) -> None:
        """Measure by how much this process's clock is wrong.

        Raises:
            DatabaseUnavailable: It cannot be asked; the latest measure still counts.
        """
        self._offset = await clock_offset(self._db)
