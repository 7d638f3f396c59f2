"""Work through a backlog so that rows which cannot be dealt with do not starve the rest.

`PageWalk` reads a backlog page by page, in turns. `RetrySchedule` decides when each open attempt of
a provider is tried again.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from fleek.domain.attempt import Attempt
from fleek.domain.job import AttemptId
from fleek.domain.values import dataclass
from fleek.engine.provider_limits import Clock

PAGE: Final = 500  # rows per query
ROWS_PER_SECOND: Final = 1000  # a backlog of more than a page is read no faster than this
LONGEST_UNREAD: Final = 10.0  # seconds between two complete reads, however long the backlog
SHORTEST: Final = 2.0  # seconds before the second try; doubled each time
LONGEST: Final = 300.0

Row = TypeVar("Row")
Cursor = tuple[datetime, AttemptId]
ReadPage = Callable[[Cursor | None], Awaitable[Sequence[Attempt]]]
"""Reads the open attempts behind a cursor, oldest intent first, at most `PAGE` of them."""
ReadOne = Callable[[AttemptId], Awaitable[Attempt | None]]


class PageWalk:
    """Reads the result of a query one page per turn, and starts over after the last page."""

    def __init__(self, page: int) -> None:
        self._rows = page
        self._after: Any = None

    @property
    def more(self) -> bool:
        """Whether there may be another page."""
        return self._after is not None

    async def page(
        self,
        read: Callable[[Any], Awaitable[Sequence[Row]]],
        cursor: Callable[[Row], Any],
    ) -> Sequence[Row]:
        """Return the next page. `read` takes the cursor to start behind, or None."""
        rows = await read(self._after)
        self._after = cursor(rows[-1]) if len(rows) == self._rows else None
        return rows


@dataclass(slots=True)
class _Entry:
    """The state of one attempt in the schedule."""

    attempt: Attempt
    next_at: float  # monotonic
    tries: int = 0


class RetrySchedule:
    """When each open attempt of one provider is tried next.

    Attempts with the fewest tries come first, and among these the newest, so permanently failing
    ones do not starve the rest. The schedule is lost with leadership: the next leader tries every
    attempt once and spaces them again.

    Args:
        read_page: Reads the open attempts.
        read_one: Reads one attempt as it is now.
        grace: Seconds before the first try.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        read_page: ReadPage,
        read_one: ReadOne,
        *,
        grace: float = 0.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._read_page = read_page
        self._read_one = read_one
        self._grace = grace
        self._clock = clock
        self._entries: dict[AttemptId, _Entry] = {}
        self._read_at = float("-inf")

    async def due(self, *, limit: int) -> list[Attempt]:
        """Return up to `limit` attempts to be tried now."""
        rereads = self._unread_for() <= 0
        if rereads:
            await self._read_all()
        now = self._clock()
        ready = [entry for entry in self._entries.values() if entry.next_at <= now]
        ready.sort(key=lambda entry: entry.attempt.submitted_at, reverse=True)
        ready.sort(key=lambda entry: entry.tries)
        attempts = [entry.attempt for entry in ready[:limit]]
        return attempts if rereads else await self._unchanged(attempts)

    def wait(self) -> timedelta | None:
        """Return the time until an attempt may be due; None: the backlog is empty."""
        if not self._entries:
            return None
        next_at = min(entry.next_at for entry in self._entries.values())
        return timedelta(seconds=max(next_at - self._clock(), 0.0))

    def record_try(self, attempt_id: AttemptId) -> None:
        """Count a try; the next one follows after a pause that doubles each time, with jitter."""
        entry = self._entries[attempt_id]
        pause = min(SHORTEST * 2 ** min(entry.tries, 16), LONGEST)
        entry.tries += 1
        entry.next_at = self._clock() + pause * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret

    def postpone(self, attempt_id: AttemptId, *, pause: timedelta) -> None:
        """Set the pause before the next try; does not count as a try."""
        if attempt_id in self._entries:
            self._entries[attempt_id].next_at = self._clock() + pause.total_seconds()

    def _unread_for(self) -> float:
        """Return the seconds until the next complete read: none while one page holds the backlog."""
        rows = len(self._entries)
        if rows <= PAGE:
            return 0.0
        pause = min(rows / ROWS_PER_SECOND, LONGEST_UNREAD)
        return self._read_at + pause - self._clock()

    async def _read_all(self) -> None:
        read_at, entries = self._clock(), {}
        async for attempt in self._all():
            known = self._entries.get(attempt.id)
            entries[attempt.id] = _Entry(
                attempt,
                next_at=read_at + self._grace if known is None else known.next_at,
                tries=0 if known is None else known.tries,
            )
        self._entries, self._read_at = entries, read_at

    async def _all(self) -> AsyncIterator[Attempt]:
        after: Cursor | None = None
        while True:
            page = await self._read_page(after)
            for attempt in page:
                yield attempt
            if len(page) < PAGE:
                return
            after = (page[-1].submitted_at, page[-1].id)

    async def _unchanged(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Drop attempts that have changed since they were read; the next read decides on them."""
        current = await asyncio.gather(*(self._read_one(attempt.id) for attempt in attempts))
        unchanged = []
        for attempt, now in zip(attempts, current, strict=True):
            if attempt == now:
                unchanged.append(attempt)
            else:
                del self._entries[attempt.id]
        return unchanged
