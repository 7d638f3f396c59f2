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
POSITION_CAP: Final = 1000  # positions beyond are not counted

Place = tuple[int, datetime, JobId]
"""The sort key of due jobs: highest priority, longest wait, lowest id first."""


class QueuePositions:
    """The cached heads of the queues, one for each provider."""

    def __init__(self) -> None:
        self._heads: dict[str, tuple[float, list[Place]]] = {}
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
        async with self._reading[provider]:
            read, head = self._heads.get(provider, (float("-inf"), []))
            if time.monotonic() - read > FRESH_SECONDS:
                due = await queue.due(
                    rt.db, providers=[provider], now=rt.now(), limit=POSITION_CAP
                )
                head = [
                    (-candidate.priority, candidate.run_at, candidate.job_id) for candidate in due
                ]
                self._heads[provider] = time.monotonic(), head
            return head
