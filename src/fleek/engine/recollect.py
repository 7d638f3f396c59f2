"""Collect the paid result of a failed job again, instead of paying for another one."""

from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import Conflict, Gone, NotFound
from fleek.domain.job import Job, JobId, Stage, Status
from fleek.domain.transitions import recollect as recollected
from fleek.domain.transitions import release_collect
from fleek.engine.apply import apply
from fleek.engine.runtime import Runtime
from fleek.store import jobs
from fleek.store.updates import Update


async def recollect(rt: Runtime, job_id: JobId, *, tenant_id: str) -> Job:
    """Return a failed job to collecting its paid result; returns the job.

    A collect that waits for its next try is tried at once, and a completed job stays as it is, so
    concurrent calls collect the result once.

    Raises:
        NotFound: There is no such job.
        Conflict: The job has no successful prediction, or was cancelled.
        Gone: The result was purged, or the provider has removed it.
    """
    seen = (await jobs.get(rt.db, job_id, tenant_id=tenant_id)).job

    def decide(job: Job, attempt: Attempt | None) -> Update:
        if job.tenant_id != tenant_id:
            raise NotFound("there is no such job")
        if job.purged_at is not None:
            raise Gone("the job's files were removed")
        if job.status is Status.COMPLETED:
            return Update()
        now = rt.now()
        if job.stage is Stage.COLLECTING:
            waits = job.worker_id is None and job.run_at > now
            return Update(
                change=release_collect(job, now=now, reason="asked for") if waits else None
            )
        _check_paid(job, attempt)
        return Update(change=recollected(job, now=now))

    applied = await apply(
        rt,
        job_id,
        decide,
        event="recollecting",
        attempt_id=seen.attempt_id,
        patience=rt.settings.max_write_wait_seconds,
    )
    if applied.changed:
        rt.wakeups.notify("admit")
    return applied.job


def _check_paid(job: Job, attempt: Attempt | None) -> None:
    """Make sure that the job has failed although its prediction succeeded, and that it has a result."""
    paid = attempt is not None and attempt.verdict is Verdict.SUCCEEDED
    if job.status is not Status.FAILED or not paid:
        message = "only a failed job whose prediction succeeded has a result to collect"
        raise Conflict(message, code="nothing_to_collect")
    if attempt is None or attempt.result is None:
        raise Gone("the provider has removed the result")
