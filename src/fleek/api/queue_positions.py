"""Queue positions, from the heads of the queues; each is read at most four times a second."""

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from datetime import datetime
from typing import Final

from fleek.domain.job import Job, JobId, Status
from fleek.engine.runtime import Runtime
from fleek.store import queue

FRESH_SECONDS: Final = 0.25
SHARE: Final = (
    20  # times as long as it took to read is a head kept: a thousand places take 10 ms and more
)
STALE_SECONDS: Final = 2.0  # the longest
POSITION_CAP: Final = 1000  # positions beyond are not counted

Place = tuple[int, datetime, JobId]
"""The sort key of due jobs: highest priority, longest wait, lowest id first."""

Head = tuple[float, float, list[Place]]
"""When it was read and how long that took, in seconds, and the places of the first due jobs."""

NEVER: Final[Head] = (float("-inf"), 0.0, [])


class QueuePositions:
    """The cached heads of the queues, one for each provider."""

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def position(self, rt: Runtime, job: Job) -> int | None:
        """Return the number of due jobs before this one, at most 1,000; None unless it is pending.

        Raises:
            DatabaseUnavailable: The queue cannot be read.
        """
        if job.status is not Status.PENDING:
            return None
        head = await self._head(rt, job.provider)
        place = (-job.priority, min(job.run_at, rt.now()), job.id)
        return min(bisect_left(head, place), POSITION_CAP)

    async def _head(self, rt: Runtime, provider: str) -> list[Place]:
        if (fresh := self._fresh(provider)) is not None:
            return fresh
        async with self._reading[provider]:
            head = self._fresh(provider)  # of a request that has waited, too
            if head is None:
                began = time.monotonic()
                due = await queue.due(
                    rt.db, providers=[provider], now=rt.now(), limit=POSITION_CAP
                )
                head = [
                    (-candidate.priority, candidate.run_at, candidate.job_id) for candidate in due
                ]
                now = time.monotonic()
                self._heads[provider] = now, now - began, head
            return head

    def _fresh(self, provider: str) -> list[Place] | None:
        read, took, head = self._heads.get(provider, NEVER)
        kept = max(FRESH_SECONDS, min(SHARE * took, STALE_SECONDS))
        return head if time.monotonic() - read < kept else None
