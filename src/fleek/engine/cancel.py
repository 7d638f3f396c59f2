"""Cancel a job: it wins or loses in one step, and the provider is told at once."""

from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import Conflict, NotFound
from fleek.domain.job import Job, JobId, Status
from fleek.domain.races import IllegalTransition
from fleek.domain.transitions import cancel as cancelled
from fleek.engine.runtime import CALLER_PATIENCE, Runtime
from fleek.engine.stop import stop_soon
from fleek.store.updates import Update


async def cancel(rt: Runtime, job_id: JobId, *, tenant_id: str) -> tuple[Job, bool]:
    """End a job as cancelled; returns it, and False if it was cancelled already.

    Raises:
        NotFound: There is no such job.
        Conflict: It has completed or failed.
    """
    seen: list[Job] = []

    def decide(job: Job, _: Attempt | None) -> Update:
        if job.tenant_id != tenant_id:
            raise NotFound("there is no such job")
        seen.append(job)
        if job.status is Status.CANCELLED:
            return Update()
        return Update(change=cancelled(job, now=rt.now()), owes_cancel=job.attempt_id is not None)

    try:
        failpoints.hit("cancel.decide")
        update = await rt.apply(job_id, decide, patience=CALLER_PATIENCE)
    except IllegalTransition as error:
        raise Conflict(f"the job has {seen[-1].status}", code="already_ended") from error
    if update.change is None:
        return seen[-1], False
    failpoints.hit("cancel.decided")
    stop_soon(rt, job_id)
    return update.change.job, True
