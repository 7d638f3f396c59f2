"""The emulator's clock: it can be advanced, which wakes waiting tasks."""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime


class Clock:
    """The emulator's time, in seconds since 1970."""

    def __init__(self) -> None:
        self._ahead = 0.0  # seconds ahead of real time, by `advance`
        self._woken = asyncio.Event()

    def now(self) -> float:
        """Return the current time."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Advance the clock, also for waiting tasks."""
        self._ahead += seconds
        self.wake()

    def wake(self) -> None:
        """Wake waiting tasks to evaluate their times again."""
        self._woken.set()
        self._woken = asyncio.Event()

    async def wait(self, due: Callable[[], float], *, until: float = math.inf) -> None:
        """Return at the instant `due()`, which may change meanwhile, or at `until` if that is earlier."""
        while (left := min(due(), until) - self.now()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, 3600.0)):
                    await self._woken.wait()


def iso(instant: float) -> str:
    """Format an instant as Replicate does: UTC with microseconds and a `Z`."""
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
