"""Recover from dead workers, unknown outcomes, missed cancels and passed deadlines.

The loops run all the time, not only at start-up, and each turn is idempotent. Calls of providers
run in loops of their own, so a provider that hangs blocks no other.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import InternalError
from fleek.domain.job import Job, JobError, JobId, Stage, Status
from fleek.domain.transitions import (
    fail_permanently,
    mark_unknown,
    postpone,
    release_collect,
    release_unknown,
    reschedule,
)
from fleek.engine import backlog
from fleek.engine.apply import apply
from fleek.engine.backlog import PageWalk, RetrySchedule
from fleek.engine.cancel import cancel_prediction, cancel_predictions_soon
from fleek.engine.clock import STEP
from fleek.engine.heartbeat import process_is_gone
from fleek.engine.loops import run_logged
from fleek.engine.paid import PAID, is_final
from fleek.engine.provider_limits import Clock
from fleek.engine.reconcile import Reconciliation
from fleek.engine.runtime import Runtime
from fleek.store import attempts, jobs, queue, workers
from fleek.store.updates import Update
from fleek.store.workers import Ended

PAGE: Final = 200  # rows per kind and turn
AT_ONCE: Final = 20  # jobs, or calls to one provider
SEARCHES: Final = PAGE  # at once: a provider reads its list for all of them together
GRACE_SECONDS: Final = 5.0  # for the process that decided a cancel to send the first request
REST: Final = timedelta(seconds=0.1)  # while there is more to do
CRASHED_COLLECTING: Final = InternalError(
    "a worker crashed while it collected the outputs", code="collecting_crashed"
)
OVERDUE: Final = JobError("deadline_exceeded", "the job did not end before its deadline")

log = structlog.get_logger(__name__)


class Recovery:
    """The turns of the loop `recover` that call no provider, during one leadership."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._overdue = PageWalk(PAGE)
        self._steps = -1  # of the clock that were handled; none yet

    async def turn(self) -> timedelta:
        """Free the jobs of dead workers and end overdue ones; returns the time until the next turn."""
        rt = self._rt
        await expire_dead_workers(rt)
        if rt.clock.steps != self._steps:
            steps = rt.clock.steps
            await reschedule_from_future(rt)
            self._steps = steps
        for worker in await workers.ended_holders(rt.db):
            await run_logged(rt, "recover", partial(self._free, worker))
        if rt.clock.stable:
            await self._end_all_overdue(rt.now())
        return REST if self._overdue.more else rt.lease.heartbeat

    async def _each(self, work: Iterable[Callable[[], Awaitable[Any]]]) -> None:
        async def bounded(task: Callable[[], Awaitable[Any]]) -> None:
            async with self._slots:
                await run_logged(self._rt, "recover", task)

        await asyncio.gather(*map(bounded, work))

    async def _free(self, worker: Ended) -> None:
        """Free all jobs that an ended worker holds; failures are retried in the next turn."""
        failpoints.hit("recover.free")
        held = await jobs.held_by(self._rt.db, worker.id)
        await self._each(partial(self._free_job, job_id, worker) for job_id in held)

    async def _free_job(self, job_id: JobId, worker: Ended) -> None:
        rt, now = self._rt, self._rt.now()
        reason = "its worker has stopped" if worker.resigned else "its worker has ended"
        poisonous = not worker.resigned and await self._crashes_collectors(job_id)

        def decide(job: Job, _: Attempt | None) -> Update:
            """Free a job of this worker: to be reconciled, or collected again, or failed."""
            if job.worker_id != worker.id:
                return Update()
            if job.stage is Stage.COLLECTING:
                if poisonous:
                    message = f"{CRASHED_COLLECTING}, again and again. {PAID}"
                    ended = JobError(CRASHED_COLLECTING.code, message)
                    return Update(change=fail_permanently(job, ended, now=now))
                if worker.resigned:
                    return Update(change=release_collect(job, now=now, reason=reason))
                backoff = rt.settings.backoff
                return Update(change=postpone(job, CRASHED_COLLECTING, now=now, backoff=backoff))
            release = mark_unknown if job.stage is Stage.STARTING else release_unknown
            crashed = not worker.resigned
            return Update(change=release(job, now=now, reason=reason, crashed=crashed))

        await apply(rt, job_id, decide, event="unknown")
        rt.wakeups.notify("recover")

    async def _crashes_collectors(self, job_id: JobId) -> bool:
        """Whether a job's outputs have crashed so many workers in a row that they are given up."""
        job = await jobs.get_any_tenant(self._rt.db, job_id)
        if job.stage is not Stage.COLLECTING:
            return False
        return await is_final(self._rt, job, CRASHED_COLLECTING)

    async def _end_all_overdue(self, now: datetime) -> None:
        async def read(after: tuple[datetime, JobId] | None) -> Sequence[tuple[datetime, JobId]]:
            leaps = self._rt.clock.leaps
            return await jobs.overdue(self._rt.db, now=now, leaps=leaps, after=after, limit=PAGE)

        page = await self._overdue.page(read, lambda cursor: cursor)
        await self._each(partial(self._end_overdue, job_id) for _, job_id in page)

    async def _end_overdue(self, job_id: JobId) -> None:
        now = self._rt.now()

        def decide(job: Job, _: Attempt | None) -> Update:
            if job.terminal or job.deadline >= now or job.stage is Stage.COLLECTING:
                return Update()
            owes = job.status is Status.PROCESSING
            return Update(change=fail_permanently(job, OVERDUE, now=now), cancel_owed=owes)

        applied = await apply(self._rt, job_id, decide, event="failed")
        if applied.update.cancel_owed:
            cancel_predictions_soon(self._rt, job_id)


class ProviderRecovery:
    """The turns of the loop `recover` that call one provider, during one leadership.

    Reconciling and cancelling have a loop each, since cancels may wait for the call budget.
    """

    def __init__(self, rt: Runtime, name: str, *, clock: Clock = time.monotonic) -> None:
        self._rt = rt
        read_attempt = partial(attempts.get, rt.db)
        self._unreconciled = RetrySchedule(
            lambda after: attempts.unreconciled(rt.db, name, after=after, limit=backlog.PAGE),
            read_attempt,
            clock=clock,
        )
        self._pending_cancels = RetrySchedule(
            lambda after: attempts.pending_cancels(rt.db, name, after=after, limit=backlog.PAGE),
            read_attempt,
            grace=GRACE_SECONDS,
            clock=clock,
        )
        self._reconciliation = Reconciliation(rt, name, self._unreconciled)

    async def reconcile_turn(self) -> timedelta:
        """Reconcile attempts whose outcome is unknown; returns how long to wait."""
        return await self._work_off(self._unreconciled, self._reconciliation.reconcile)

    async def cancel_turn(self) -> timedelta:
        """Repeat cancels that the provider has not confirmed; returns how long to wait."""
        return await self._work_off(self._pending_cancels, partial(cancel_prediction, self._rt))

    async def _work_off(
        self, schedule: RetrySchedule, work: Callable[[Attempt], Awaitable[bool]]
    ) -> timedelta:
        """Work on the due attempts in batches, until the provider answers none of a batch."""
        due = await schedule.due(limit=PAGE)
        for start in range(0, len(due), AT_ONCE):
            batch = due[start : start + AT_ONCE]
            for attempt in batch:
                schedule.record_try(attempt.id)
            answered = await asyncio.gather(
                *(run_logged(self._rt, "recover", partial(work, attempt)) for attempt in batch)
            )
            if not any(answered):
                break
        wait = schedule.wait()
        heartbeat = self._rt.lease.heartbeat
        return heartbeat if wait is None else min(max(wait, REST), heartbeat)


async def expire_dead_workers(rt: Runtime) -> None:
    """End the other workers that missed too many heartbeats, or whose process has gone.

    A worker does not expire itself: a loaded machine delays its heartbeats and this loop alike.
    """
    now, asked = rt.now(), rt.steady()
    running = [worker for worker in await workers.running(rt.db) if not rt.lease.is_own(worker.id)]
    rt.own_share.others = len(running)
    silent = rt.lease.silent(running, asked=asked)
    gone = [worker.id for worker in running if process_is_gone(worker)]
    if silent or gone:
        failpoints.hit("recover.expire")
        expired = {*gone, *(worker.id for worker in silent)}
        log.warning("workers_expired", workers=sorted(map(str, expired)))
        await workers.end_silent(rt.db, silent, now=now)
        await workers.end(rt.db, gone, now=now)


async def reschedule_from_future(rt: Runtime) -> None:
    """Reschedule jobs whose rows were written later than now, after the clock was set back.

    Each waits as long as the row meant it to. A `run_at` that the caller chose is kept.
    """
    rescheduled = 0
    while job_ids := await queue.from_future(rt.db, now=rt.now() + STEP, limit=PAGE):
        for job_id in job_ids:
            await _reschedule(rt, job_id)
        rescheduled += len(job_ids)
    if rescheduled:
        log.warning("jobs_rescheduled", jobs=rescheduled, reason="the clock was set back")
        rt.wakeups.notify("admit")


async def _reschedule(rt: Runtime, job_id: JobId) -> None:
    def decide(job: Job, _: Attempt | None) -> Update:
        now = rt.now()
        if job.terminal or job.updated_at <= now + STEP:
            return Update()
        return Update(change=reschedule(job, now=now))

    await apply(rt, job_id, decide, event="rescheduled")
