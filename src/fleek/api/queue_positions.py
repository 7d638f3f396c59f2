"""Who waits in front of whom: read from the database now and then, for all who ask."""

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
POSITION_CAP: Final = 1000  # positions beyond are not counted

Place = tuple[int, datetime, JobId]
"""Sorts as jobs are taken: the highest priority, the longest wait, the lowest id first."""


class QueuePositions:
    """The heads of the queues, one for each provider, as they were a moment ago."""

    def __init__(self) -> None:
        self._heads: dict[str, tuple[float, list[Place]]] = {}
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def position(self, rt: Runtime, job: Job) -> int | None:
        """Return how many due jobs go first, counted up to 1,000; None if it does not wait.

        Raises:
            DatabaseUnavailable: The queue cannot be read.
        """
        if job.status is not Status.PENDING:
            return None
        head = await self._head(rt, job.provider)
        place = (-job.priority, min(job.run_at, rt.now()), job.id)
        return min(bisect_left(head, place), POSITION_CAP)

    async def _head(self, rt: Runtime, provider: str) -> list[Place]:
        async with self._reading[provider]:
            read, head = self._heads.get(provider, (float("-inf"), []))
            if time.monotonic() - read > FRESH_SECONDS:
                due = await queue.due(
                    rt.db, providers=[provider], now=rt.now(), limit=POSITION_CAP
                )
                head = [(-one.priority, one.run_at, one.job_id) for one in due]
                self._heads[provider] = time.monotonic(), head
            return head
