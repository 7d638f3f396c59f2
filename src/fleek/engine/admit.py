"""Nudge what is due: the only place that chooses an order."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

import structlog

from fleek import failpoints
from fleek.dispatch.base import Task
from fleek.domain.errors import DispatcherUnavailable
from fleek.domain.job import JobId
from fleek.engine.provider_limits import Clock
from fleek.engine.runtime import Runtime
from fleek.engine.throttle import RateLimiter
from fleek.store import queue, workers
from fleek.store.queue import Due

OUTSTANDING_PER_SLOT: Final = 4  # nudges that no worker has answered yet
REPEAT_SECONDS: Final = 30.0  # a nudge that was not answered is sent again
RECOLLECTS: Final = 4  # one slot in so many collects what could not be collected before
IDLE: Final = timedelta(seconds=1)
BUSY: Final = timedelta(milliseconds=20)

log = structlog.get_logger(__name__)


class Dispatches:
    """The coordinator's memory of what it has sent and nobody has answered yet."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._sent: dict[JobId, tuple[datetime, float]] = {}  # for which turn; when, monotonic

    def note(self, wanted: Mapping[JobId, datetime]) -> None:
        """Forget nudges that were answered or are too old.

        One was answered if its job is not `wanted` any more, or is for another time: then it was
        taken and has come back meanwhile.
        """
        oldest = time.monotonic() - REPEAT_SECONDS
        self._sent = {
            job_id: (run_at, sent)
            for job_id, (run_at, sent) in self._sent.items()
            if wanted.get(job_id) == run_at and sent > oldest
        }

    @property
    def outstanding(self) -> list[JobId]:
        """The nudges that nobody has answered, as far as is known."""
        return list(self._sent)

    async def send(
        self,
        rt: Runtime,
        wanted: Mapping[JobId, datetime],
        *,
        most: int,
        may: Callable[[JobId], bool] = lambda _: True,
    ) -> int:
        """Nudge jobs that are not nudged yet, until `most` are outstanding; returns how many.

        `wanted` says since when each is to run. `may` is asked in this order, and only for jobs
        that are nudged if it says yes.
        """
        self.note(wanted)
        fresh = filter(may, (job_id for job_id in wanted if job_id not in self._sent))
        chosen = list(islice(fresh, max(most - len(self._sent), 0)))
        for number, job_id in enumerate(chosen):
            try:
                failpoints.hit("admit.nudge")
                await rt.dispatcher.enqueue(self._task, job_id)
            except DispatcherUnavailable as error:
                log.warning("dispatch_failed", job_id=str(job_id), reason=str(error))
                return number
            self._sent[job_id] = (wanted[job_id], time.monotonic())
        return len(chosen)


class Admission:
    """The turns of `admit`, as long as this process coordinates."""

    def __init__(self, rt: Runtime, *, clock: Clock = time.monotonic) -> None:
        self._rt = rt
        self._limiter = RateLimiter(rt, clock=clock)
        self._starts = Dispatches("start")
        self._collects = Dispatches("collect")
        self._recollects = Dispatches("collect")  # whatever these wait for may take each its time

    async def turn(self) -> timedelta:
        """Nudge due jobs, best first, and jobs to be collected; returns how long to wait."""
        rt, now = self._rt, self._rt.now()
        slots = sum(worker.slots for worker in await workers.running(rt.db))
        most = OUTSTANDING_PER_SLOT * slots
        due = await self._due(now, limit=most + 1)
        dispatched = await self._starts.send(
            rt, _turns(due), most=most, may=lambda job_id: self._limiter.allows(due[job_id])
        )
        ready = await queue.uncollected(rt.db, now=now, limit=most + 1, postponed=False)
        dispatched += await self._collects.send(rt, ready, most=most)
        few = max(slots // RECOLLECTS, 1)
        again = await queue.uncollected(rt.db, now=now, limit=few + 1, postponed=True)
        dispatched += await self._recollects.send(rt, again, most=few)
        if dispatched or (len(due) > most and not self._limiter.refused):
            return BUSY
        upcoming = await queue.next_run(rt.db, providers=self._limiter.providers, now=now)
        waits = (self._limiter.wait(), None if upcoming is None else upcoming - now)
        return max(min((IDLE, *(wait for wait in waits if wait is not None))), BUSY)

    async def _due(self, now: datetime, *, limit: int) -> dict[JobId, Due]:
        """Return what is due at providers that sell, in the order of its turn."""
        await self._limiter.look()
        found = await queue.due(
            self._rt.db,
            providers=self._limiter.providers,
            without=self._limiter.without,
            now=now,
            limit=limit,
        )
        due = {one.job_id: one for one in found}
        self._starts.note(_turns(due))
        await self._limiter.count(due[job_id] for job_id in self._starts.outstanding)
        return due


def _turns(due: Mapping[JobId, Due]) -> dict[JobId, datetime]:
    return {job_id: one.run_at for job_id, one in due.items()}
