"""Put right what dead workers, lost answers and passed deadlines leave behind.

Every turn is idempotent, and runs for ever, not only at start-up.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from datetime import timedelta
from typing import Any, Final

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import ProviderError
from fleek.domain.job import Job, JobError, JobId, Stage, Status, WorkerId
from fleek.domain.transitions import doubt, give_up, release
from fleek.engine.pulse import gone
from fleek.engine.runtime import Runtime, guarded
from fleek.engine.settle import Settlement
from fleek.store import attempts, jobs, workers
from fleek.store.steps import Step

PAGE: Final = 200  # rows per kind and turn
AT_ONCE: Final = 20  # calls to providers
OVERDUE: Final = JobError("deadline_exceeded", "the job did not end before its deadline")

log = structlog.get_logger(__name__)


class Recovery:
    """The turns of `recover`, as long as this process coordinates."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._calls = asyncio.Semaphore(AT_ONCE)
        self._settlement = Settlement(rt)

    async def turn(self) -> timedelta:
        """Do whatever is owed; returns how long to wait."""
        rt = self._rt
        await bury_the_dead(rt)
        for worker_id in await workers.unfreed(rt.db):
            await self._free(worker_id)
        unsettled = await attempts.unsettled(rt.db, limit=PAGE)
        await self._each(self._settlement.settle(attempt) for attempt in unsettled)
        overdue = await jobs.overdue(rt.db, now=rt.now(), limit=PAGE)
        await self._each(self._end_overdue(job_id) for job_id in overdue)
        owed = await attempts.owed(rt.db, limit=PAGE)
        await self._each(self._stop(attempt) for attempt in owed)
        return rt.pulse.heartbeat

    async def _each(self, work: Iterable[Awaitable[Any]]) -> None:
        async def bounded(one: Awaitable[Any]) -> None:
            async with self._calls:
                await guarded(self._rt, "recover", one)

        await asyncio.gather(*map(bounded, work))

    async def _free(self, worker_id: WorkerId) -> None:
        """Take back what an ended worker held."""
        rt = self._rt
        failpoints.hit("recover.free")
        held = await jobs.held(rt.db, worker_id, limit=PAGE)
        await self._each(self._take_back(job_id, worker_id) for job_id in held)
        if not held:
            failpoints.hit("recover.freed")
            await workers.mark_freed(rt.db, worker_id)
        else:
            rt.bells.ring("recover")

    async def _take_back(self, job_id: JobId, worker_id: WorkerId) -> None:
        now = self._rt.now()

        def decide(job: Job, _: Attempt | None) -> Step:
            if job.worker_id != worker_id:
                return Step()
            if job.stage is Stage.COLLECTING:
                return Step(change=release(job, now=now, reason="its worker has ended"))
            return Step(change=doubt(job, now=now, reason="its worker has ended", crashed=True))

        await self._rt.take(job_id, decide)

    async def _end_overdue(self, job_id: JobId) -> None:
        now = self._rt.now()

        def decide(job: Job, _: Attempt | None) -> Step:
            if job.terminal or job.deadline >= now or job.stage is Stage.COLLECTING:
                return Step()
            owes = job.status is Status.PROCESSING
            return Step(change=give_up(job, OVERDUE, now=now), owes_cancel=owes)

        await self._rt.take(job_id, decide)

    async def _stop(self, attempt: Attempt) -> None:
        """Ask the provider to stop; `watch` sees when it has."""
        provider = self._rt.providers.get(attempt.provider)
        if provider is None or attempt.prediction_id is None:
            return
        try:
            failpoints.hit("recover.stop")
            await provider.cancel(attempt.prediction_id)
            failpoints.hit("recover.stopped")
        except ProviderError as error:
            log.warning("not_cancelled", prediction=attempt.prediction_id, reason=str(error))
        self._rt.bells.ring("watch")


async def bury_the_dead(rt: Runtime) -> None:
    """End workers that were silent for too long, or whose process is not there any more."""
    now = rt.now()
    dead = await workers.silent(rt.db, since=now - rt.pulse.silence)
    alive = await workers.alive(rt.db, since=now - rt.pulse.silence)
    dead.extend(worker.id for worker in alive if gone(worker))
    if dead:
        failpoints.hit("recover.bury")
        log.warning("workers_died", workers=[str(worker_id) for worker_id in dead])
        await workers.end(rt.db, dead, now=now)
