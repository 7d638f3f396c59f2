"""Whether storage has free space, answered without waiting for it."""

import asyncio
import time
from typing import Final

import structlog

from fleek.domain.errors import HostError, StorageFull
from fleek.storage.base import Storage

LOOK_SECONDS: Final = 5.0  # between checks while jobs are submitted

log = structlog.get_logger(__name__)


class StorageCapacity:
    """A cached check for free space, refreshed in the background."""

    def __init__(self, storage: Storage, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._storage = storage
        self._look_seconds = look_seconds
        self._full: StorageFull | None = None
        self._looked = float("-inf")  # monotonic
        self._task: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Make sure that storage had free space at the latest check; never waits.

        Raises:
            StorageFull: It had none.
        """
        now = time.monotonic()
        if now - self._looked > self._look_seconds and (self._task is None or self._task.done()):
            self._looked = now
            self._task = asyncio.create_task(self.look())
        if self._full is not None:
            raise StorageFull(str(self._full))

    async def look(self) -> None:
        """Check for free space now."""
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
        """Stop checking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
