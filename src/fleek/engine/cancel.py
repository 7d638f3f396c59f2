"""Cancel a job: it wins or loses in one step, and the provider is told at once."""

from fleek.domain.attempt import Attempt
from fleek.domain.errors import Conflict, NotFound
from fleek.domain.job import Job, JobId, Status
from fleek.domain.transitions import cancel as cancelled
from fleek.engine.apply import CALLER_PATIENCE, apply
from fleek.engine.runtime import Runtime
from fleek.engine.stop import stop_soon
from fleek.store.updates import Update


async def cancel(rt: Runtime, job_id: JobId, *, tenant_id: str) -> tuple[Job, bool]:
    """End a job as cancelled; returns it, and False if it was cancelled already.

    Raises:
        NotFound: There is no such job.
        Conflict: It has completed or failed.
    """

    def decide(job: Job, _: Attempt | None) -> Update:
        if job.tenant_id != tenant_id:
            raise NotFound("there is no such job")
        if job.status is Status.CANCELLED:
            return Update()
        if job.terminal:
            raise Conflict(f"the job has {job.status}", code="already_ended")
        return Update(change=cancelled(job, now=rt.now()), cancel_owed=job.attempt_id is not None)

    applied = await apply(rt, job_id, decide, event="cancelled", patience=CALLER_PATIENCE)
    if applied.changed:
        stop_soon(rt, job_id)
    return applied.job, applied.changed
