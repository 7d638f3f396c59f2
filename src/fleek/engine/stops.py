"""What one process has under way to stop predictions: places and budgets, by provider."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from fleek.engine.bucket import TokenBucket
from fleek.engine.shielded_tasks import ShieldedTasks

AT_ONCE: Final = 32  # requests to one provider
MOST: Final = 1000  # first requests that wait in this process
SHARE: Final = 0.25  # of a provider's budget of calls; `watch` has half of it
BURST_SECONDS: Final = 60.0  # many are cancelled at once, or none


@dataclass(slots=True)
class Line:
    """The way to one provider."""

    calls: TokenBucket
    capacity: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))


class Stops:
    """Requests of this process to stop predictions."""

    def __init__(self) -> None:
        self.sending = ShieldedTasks()  # beside those who decided it
        self._lines: dict[str, Line] = {}

    @property
    def full(self) -> bool:
        """Whether so many wait that the coordinator has to send the next ones."""
        return len(self.sending) >= MOST

    def line(self, name: str, *, calls_per_minute: float | None) -> Line:
        """Return the way to a provider, whose budget this is."""
        if name not in self._lines:
            share = calls_per_minute and calls_per_minute * SHARE
            self._lines[name] = Line(TokenBucket(share, burst_seconds=BURST_SECONDS, full=True))
        return self._lines[name]
