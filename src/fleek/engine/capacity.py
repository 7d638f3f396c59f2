"""Whether there is room for another job's files: known without waiting for the disk."""

import asyncio
import time
from typing import Final

import structlog

from fleek.domain.errors import HostError, StorageFull
from fleek.storage.base import Storage

LOOK_SECONDS: Final = 5.0  # between looks while jobs are submitted

log = structlog.get_logger(__name__)


class StorageCapacity:
    """Remembers whether the storage was full at the latest look, and looks again now and then."""

    def __init__(self, storage: Storage, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._storage = storage
        self._look_seconds = look_seconds
        self._full: StorageFull | None = None
        self._looked = float("-inf")  # monotonic
        self._task: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Make sure that files could be stored when last looked; never waits.

        Raises:
            StorageFull: There was no room.
        """
        now = time.monotonic()
        if now - self._looked > self._look_seconds and (self._task is None or self._task.done()):
            self._looked = now
            self._task = asyncio.create_task(self.look())
        if self._full is not None:
            raise StorageFull(str(self._full))

    async def look(self) -> None:
        """Find out whether there is room now."""
        try:
            await self._storage.check()
        except StorageFull as error:
            if self._full is None:
                log.error("storage_full", reason=str(error))  # noqa: TRY400 - no traceback wanted
            self._full = error
        except HostError as error:
            log.warning("storage_unavailable", reason=str(error))
        else:
            self._full = None

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
