"""Put right what a clock that was set back has left in the future."""

from typing import Final

import structlog

from fleek.domain.attempt import Attempt
from fleek.domain.job import Job, JobId
from fleek.domain.transitions import reschedule
from fleek.engine.apply import apply
from fleek.engine.clock import STEP
from fleek.engine.runtime import Runtime
from fleek.store import queue
from fleek.store.updates import Update

PAGE: Final = 200

log = structlog.get_logger(__name__)


async def reschedule_from_future(rt: Runtime) -> None:
    """Let jobs that were written later than now wait no longer than they were meant to.

    How long that is stands in the row. Those that their caller wants at a certain time keep it.
    """
    moved = 0
    while found := await queue.from_future(rt.db, now=rt.now() + STEP, limit=PAGE):
        for job_id in found:
            await _reschedule(rt, job_id)
        moved += len(found)
    if moved:
        log.warning("jobs_rescheduled", jobs=moved, reason="time has been set back")
        rt.wakeups.notify("admit")


async def _reschedule(rt: Runtime, job_id: JobId) -> None:
    def decide(job: Job, _: Attempt | None) -> Update:
        now = rt.now()
        if job.terminal or job.updated_at <= now + STEP:
            return Update()
        return Update(change=reschedule(job, now=now))

    await apply(rt, job_id, decide, event="rescheduled")
