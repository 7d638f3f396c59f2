"""Dispatch due jobs: the only place that decides their order."""

import time
from collections.abc import Callable, Iterable, Mapping
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
from fleek.store import limits, queue, workers
from fleek.store.queue import Due

OUTSTANDING_PER_SLOT: Final = 4  # dispatched ids that no worker has claimed yet
REPEAT_SECONDS: Final = 30.0  # before an id that was not claimed is dispatched again
RECOLLECTS: Final = 4  # one slot in so many is for collects that have failed before
IDLE: Final = timedelta(seconds=1)
BUSY: Final = timedelta(milliseconds=20)
FULL: Final = timedelta(milliseconds=200)  # jobs wait until others of their tenant have ended

log = structlog.get_logger(__name__)


class Dispatches:
    """The ids of one task that were dispatched and not claimed yet, during one leadership."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._sent: dict[JobId, tuple[datetime, float]] = {}  # its `run_at` then; when, monotonic

    def note(self, wanted: Mapping[JobId, datetime]) -> None:
        """Forget ids that were claimed, or were dispatched too long ago.

        An id was claimed if its job is not `wanted` any more, or has another `run_at`: then it was
        claimed and returned to the queue in between.
        """
        oldest = time.monotonic() - REPEAT_SECONDS
        self._sent = {
            job_id: (run_at, sent)
            for job_id, (run_at, sent) in self._sent.items()
            if wanted.get(job_id) == run_at and sent > oldest
        }

    @property
    def outstanding(self) -> list[JobId]:
        """The ids that are not known to be claimed."""
        return list(self._sent)

    async def send(
        self,
        rt: Runtime,
        wanted: Mapping[JobId, datetime],
        *,
        most: int,
        may: Callable[[JobId], bool] = lambda _: True,
    ) -> int:
        """Dispatch jobs until `most` are outstanding; returns how many were dispatched now.

        `wanted` holds the `run_at` of each job, in the order of dispatch. `may` is called in this
        order, and only for jobs that are dispatched if it returns True.
        """
        self.note(wanted)
        fresh = filter(may, (job_id for job_id in wanted if job_id not in self._sent))
        chosen = list(islice(fresh, max(most - len(self._sent), 0)))
        for number, job_id in enumerate(chosen):
            try:
                failpoints.hit("admit.dispatch")
                await rt.dispatcher.enqueue(self._task, job_id)
            except DispatcherUnavailable as error:
                log.warning("dispatch_failed", job_id=str(job_id), reason=str(error))
                return number
            self._sent[job_id] = (wanted[job_id], time.monotonic())
        return len(chosen)


class TenantLimiter:
    """Which tenants may have another job started; exact is only the commit that claims the job."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._free: dict[str, int] = {}  # further jobs, by tenant with a limit
        self._disabled: frozenset[str] = frozenset()
        self.busy: frozenset[str] = frozenset()  # tenants of which no further job may run
        self.refused = False  # whether a job was refused since `count_free`
        self.awaited = False  # whether one was that may start once others have ended

    async def count_free(self, due: Mapping[JobId, Due], dispatched: Iterable[JobId]) -> None:
        """Count how many more jobs of each tenant may run; call it after reading due jobs.

        `dispatched`: ids that no worker has claimed yet. A job that is claimed in between counts twice
        for a moment, but is never missed.
        """
        self.refused = self.awaited = False
        tenants = {job.tenant_id for job in due.values()} | self.busy
        default = self._rt.settings.max_running
        running = await limits.count_running(self._rt.db, tenants, default=default)
        self._free = {name: found.most - found.jobs for name, found in running.items()}
        self._disabled = frozenset(name for name, found in running.items() if not found.most)
        self.busy = frozenset(name for name, free in self._free.items() if free < 1)
        for job_id in dispatched:
            self.take(due[job_id])

    def has_place(self, job: Due) -> bool:
        """Whether this job may be started."""
        if self._free.get(job.tenant_id, 1) > 0:
            return True
        self.refused = True
        self.awaited = self.awaited or job.tenant_id not in self._disabled
        return False

    def take(self, job: Due) -> None:
        """Count a job that is started."""
        if job.tenant_id in self._free:
            self._free[job.tenant_id] -= 1


class Admission:
    """The turns of the loop `admit` during one leadership."""

    def __init__(self, rt: Runtime, *, clock: Clock = time.monotonic) -> None:
        self._rt = rt
        self._limiter = RateLimiter(rt, clock=clock)
        self._tenants = TenantLimiter(rt)
        self._starts = Dispatches("start")
        self._collects = Dispatches("collect")
        self._recollects = Dispatches("collect")  # apart, since each may take long to fail again

    async def turn(self) -> timedelta:
        """Dispatch due starts and collects; returns the time until the next turn."""
        rt, now = self._rt, self._rt.now()
        slots = sum(worker.slots for worker in await workers.running(rt.db))
        most = OUTSTANDING_PER_SLOT * slots
        due = await self._due(now, limit=most + 1)
        dispatched = await self._starts.send(
            rt, _run_times(due), most=most, may=lambda job_id: self._allows(due[job_id])
        )
        ready = await queue.uncollected(rt.db, now=now, limit=most + 1, postponed=False)
        dispatched += await self._collects.send(rt, ready, most=most)
        few = max(slots // RECOLLECTS, 1)
        again = await queue.uncollected(rt.db, now=now, limit=few + 1, postponed=True)
        dispatched += await self._recollects.send(rt, again, most=few)
        refused = self._limiter.refused or self._tenants.refused
        if dispatched or (len(due) > most and not refused):
            return BUSY
        upcoming = await queue.next_run(rt.db, providers=self._limiter.providers, now=now)
        waits = (
            self._limiter.wait(),
            None if upcoming is None else upcoming - now,
            FULL if self._tenants.awaited else None,
        )
        return max(min((IDLE, *(wait for wait in waits if wait is not None))), BUSY)

    def _allows(self, job: Due) -> bool:
        """Whether this job may be started; if so, its token and its places are taken."""
        if not self._tenants.has_place(job) or not self._limiter.allows(job):
            return False
        self._tenants.take(job)
        return True

    async def _due(self, now: datetime, *, limit: int) -> dict[JobId, Due]:
        """Return due jobs of providers that are not paused, in the order of dispatch."""
        await self._limiter.refresh()
        jobs = await queue.due(
            self._rt.db,
            providers=self._limiter.providers,
            without=self._limiter.without,
            now=now,
            limit=limit,
            dispatched=self._starts.outstanding,
            busy=self._tenants.busy,
        )
        due = {job.job_id: job for job in jobs}
        self._starts.note(_run_times(due))
        await self._limiter.count_free(due[job_id] for job_id in self._starts.outstanding)
        await self._tenants.count_free(due, self._starts.outstanding)
        return due


def _run_times(due: Mapping[JobId, Due]) -> dict[JobId, datetime]:
    return {job_id: job.run_at for job_id, job in due.items()}
