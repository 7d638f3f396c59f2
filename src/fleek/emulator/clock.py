"""The emulator's time: it can be moved, and waiting tasks notice."""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime


class Clock:
    """Seconds since 1970, as the emulator sees them."""

    def __init__(self) -> None:
        self._ahead = 0.0  # seconds before real time, from `advance`
        self._woken = asyncio.Event()

    def now(self) -> float:
        """Say what time it is."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move time forward for everybody, those who wait included."""
        self._ahead += seconds
        self.wake()

    def wake(self) -> None:
        """Make those who wait look again at what they wait for."""
        self._woken.set()
        self._woken = asyncio.Event()

    async def wait(self, due: Callable[[], float], *, until: float = math.inf) -> None:
        """Return at the instant `due()`, which may change meanwhile, and at `until` at the latest."""
        while (left := min(due(), until) - self.now()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, 3600.0)):
                    await self._woken.wait()


def iso(instant: float) -> str:
    """Write an instant as Replicate does: UTC with microseconds and a `Z`."""
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
