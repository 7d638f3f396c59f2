"""Dispatch due jobs: the only place that decides their order."""

import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from fleek.domain.job import JobId
from fleek.engine.dispatches import Dispatches
from fleek.engine.provider_limits import Clock
from fleek.engine.runtime import Runtime
from fleek.engine.throttle import RateLimiter
from fleek.store import limits, queue, workers
from fleek.store.database import Reads
from fleek.store.queue import Due

OUTSTANDING_PER_SLOT: Final = 4  # dispatched ids that no worker has claimed yet
RECOLLECTS: Final = 4  # one slot in so many is for collects that have failed before
IDLE: Final = timedelta(seconds=1)
BUSY: Final = timedelta(milliseconds=20)
FULL: Final = timedelta(milliseconds=200)  # jobs wait until others of their tenant have ended


class TenantLimiter:
    """Which tenants may have another job started; exact is only the commit that claims the job."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._free: dict[str, int] = {}  # further jobs, by tenant with a limit
        self._disabled: frozenset[str] = frozenset()
        self.busy: frozenset[str] = frozenset()  # tenants of which no further job may run
        self.refused = False  # whether a job was refused since `count_free`
        self.awaited = False  # whether one was that may start once others have ended

    async def count_free(
        self, db: Reads, due: Mapping[JobId, Due], dispatched: Iterable[JobId]
    ) -> None:
        """Count how many more jobs of each tenant may run; call it after reading due jobs.

        `dispatched`: ids that no worker has claimed yet. A job that is claimed in between counts twice
        for a moment, but is never missed.
        """
        self.refused = self.awaited = False
        tenants = {job.tenant_id for job in due.values()} | self.busy
        default = self._rt.settings.max_running
        running = await limits.count_running(db, tenants, default=default)
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
        self._collects = rt.collects  # with those that `conclude` has dispatched in this process
        self._recollects = Dispatches("collect")  # apart, since each may take long to fail again

    async def turn(self) -> timedelta:
        """Dispatch due starts and collects; returns the time until the next turn."""
        rt, now = self._rt, self._rt.now()
        async with rt.db.reads() as db:
            running = await workers.running(db)
            slots = sum(worker.slots for worker in running)
            most, few = OUTSTANDING_PER_SLOT * slots, max(slots // RECOLLECTS, 1)
            due = await self._due(db, now, limit=most + 1)
            again = await queue.uncollected(db, now=now, limit=few + 1, postponed=True)
            ready = await queue.uncollected(db, now=now, limit=most + 1, postponed=False)
        # At once: what `conclude` dispatches between the two would be forgotten, and sent again.
        dispatched = await self._collects.send(rt, ready, most=most, running=running)
        dispatched += await self._starts.send(
            rt,
            _run_times(due),
            most=most,
            running=running,
            may=lambda job_id: self._allows(due[job_id]),
        )
        dispatched += await self._recollects.send(rt, again, most=few, running=running)
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

    async def _due(self, db: Reads, now: datetime, *, limit: int) -> dict[JobId, Due]:
        """Return due jobs of providers that are not paused, in the order of dispatch."""
        await self._limiter.refresh(db)
        jobs = await queue.due(
            db,
            providers=self._limiter.providers,
            without=self._limiter.without,
            now=now,
            limit=limit,
            dispatched=self._starts.outstanding,
            busy=self._tenants.busy,
        )
        due = {job.job_id: job for job in jobs}
        self._starts.note(_run_times(due))
        await self._limiter.count_free(db, (due[job_id] for job_id in self._starts.outstanding))
        await self._tenants.count_free(db, due, self._starts.outstanding)
        return due


def _run_times(due: Mapping[JobId, Due]) -> dict[JobId, datetime]:
    return {job_id: job.run_at for job_id, job in due.items()}
