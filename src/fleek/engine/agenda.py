"""Which attempts of one provider are tried now, and which later."""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fleek.domain.attempt import Attempt
from fleek.domain.job import AttemptId
from fleek.engine.bucket import Clock

PAGE: Final = 500  # rows read at once
SHORTEST: Final = 2.0  # seconds before the second try; doubled each time
LONGEST: Final = 300.0

Cursor = tuple[datetime, AttemptId]
Read = Callable[[Cursor | None], Awaitable[Sequence[Attempt]]]
"""Reads the attempts behind a place, in the order of their intents, `PAGE` of them at most."""


@dataclass(slots=True)
class _Entry:
    """What is remembered of one attempt."""

    next_at: float  # monotonic
    tries: int = 0


class Agenda:
    """The attempts of one provider that have to be dealt with, each at its time.

    All of them are read each time, and those that were tried least go first, of these the newest:
    so no number of hopeless ones stands before the rest. What is remembered is lost with the
    coordinator; its successor tries all of them anew.

    Args:
        read: Where they are read.
        grace: Seconds before the first try.
        clock: Monotonic seconds.
    """

    def __init__(self, read: Read, *, grace: float = 0.0, clock: Clock = time.monotonic) -> None:
        self._read = read
        self._grace = grace
        self._clock = clock
        self._entries: dict[AttemptId, _Entry] = {}

    async def due(self, *, limit: int) -> list[Attempt]:
        """Return what is to be tried now, at most so many."""
        known, now = self._entries, self._clock()
        self._entries = {}
        ready: list[Attempt] = []
        async for attempt in self._all():
            entry = known.get(attempt.id) or _Entry(now + self._grace)
            self._entries[attempt.id] = entry
            if entry.next_at <= now:
                ready.append(attempt)
        ready.sort(key=lambda one: one.submitted_at, reverse=True)
        ready.sort(key=lambda one: self._entries[one.id].tries)
        return ready[:limit]

    def wait(self) -> timedelta | None:
        """Return how long it takes until one is due; None if there is none."""
        if not self._entries:
            return None
        first = min(entry.next_at for entry in self._entries.values())
        return timedelta(seconds=max(first - self._clock(), 0.0))

    def later(self, attempt_id: AttemptId, *, pause: timedelta | None = None) -> None:
        """Try it again after a pause; None: one that grows with each try, with jitter."""
        entry = self._entries.setdefault(attempt_id, _Entry(self._clock()))
        grown = min(SHORTEST * 2 ** min(entry.tries, 16), LONGEST) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret
        entry.tries += 1
        entry.next_at = self._clock() + (grown if pause is None else pause.total_seconds())

    async def _all(self) -> AsyncIterator[Attempt]:
        after: Cursor | None = None
        while True:
            page = await self._read(after)
            for attempt in page:
                yield attempt
            if len(page) < PAGE:
                return
            after = (page[-1].submitted_at, page[-1].id)
