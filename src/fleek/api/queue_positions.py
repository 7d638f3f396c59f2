"""Queue positions, from the heads of the queues; each is read at most four times a second."""

import asyncio
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple

from fleek.domain.job import Job, JobId, Status
from fleek.engine.runtime import Runtime
from fleek.store import queue

FRESH_SECONDS: Final = 0.25
SHARE: Final = (
    20  # times as long as it took to read is a head kept: a thousand places take 10 ms and more
)
STALE_SECONDS: Final = 2.0  # the longest
POSITION_CAP: Final = 1000  # positions beyond are not counted

Place = tuple[int, int, datetime, JobId]
"""The sort key of due jobs: highest priority, its tenant's first, longest wait, lowest id first."""


class Head(NamedTuple):
    """The first due jobs of a queue; both times in seconds."""

    read_at: float
    took: float
    places: Sequence[Place] = ()  # in order
    turns: Mapping[JobId, int] = MappingProxyType(
        {}
    )  # jobs of the same tenant and priority before each
    taken: Mapping[tuple[int, str], int] = MappingProxyType({})  # jobs by priority and tenant

    def position(self, job: Job, now: datetime) -> int:
        """Return how many jobs are before this one; one that is not here comes after its tenant's."""
        turn = self.turns.get(job.id, self.taken.get((job.priority, job.tenant_id), 0))
        return bisect_left(self.places, (-job.priority, turn, min(job.run_at, now), job.id))


NEVER: Final = Head(float("-inf"), 0.0)


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
        return min(head.position(job, rt.now()), POSITION_CAP)

    async def _head(self, rt: Runtime, provider: str) -> Head:
        if (fresh := self._fresh(provider)) is not None:
            return fresh
        async with self._reading[provider]:
            head = self._fresh(provider)  # of a request that has waited, too
            if head is None:
                began = time.monotonic()
                due = await queue.due(
                    rt.db, providers=[provider], now=rt.now(), limit=POSITION_CAP
                )
                head = self._heads[provider] = _head_of(due, began)
            return head

    def _fresh(self, provider: str) -> Head | None:
        head = self._heads.get(provider, NEVER)
        kept = max(FRESH_SECONDS, min(SHARE * head.took, STALE_SECONDS))
        return head if time.monotonic() - head.read_at < kept else None


def _head_of(due: Iterable[queue.Due], began: float) -> Head:
    """Make a head of what was read from `began` on (monotonic seconds)."""
    places: list[Place] = []
    turns: dict[JobId, int] = {}
    taken: Counter[tuple[int, str]] = Counter()
    for job in due:
        turn = turns[job.job_id] = taken[job.priority, job.tenant_id]
        taken[job.priority, job.tenant_id] += 1
        places.append((-job.priority, turn, job.run_at, job.job_id))
    now = time.monotonic()
    return Head(now, now - began, places, turns, taken)
