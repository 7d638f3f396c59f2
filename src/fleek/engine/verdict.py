"""Write down what came of a purchase that gave no prediction: not bought, refused, or unknown."""

from dataclasses import replace
from datetime import timedelta

from fleek import failpoints
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import (
    FleekError,
    OutcomeUnknown,
    ProviderError,
)
from fleek.domain.job import Job, JobError, Stage
from fleek.domain.transitions import defer, fail, mark_unknown
from fleek.engine.runtime import Runtime
from fleek.store.updates import Update


async def record_not_bought(
    rt: Runtime, attempt: Attempt, error: FleekError, *, floor: timedelta | None = None
) -> None:
    """Give the attempt back; the job tries again later, not before `floor` has passed."""

    def decide(job: Job, current: Attempt | None) -> Update:
        settled = close_attempt(current, Verdict.NOT_BOUGHT, error)
        if not is_buying(job, attempt):
            return Update(attempt=settled)
        change = defer(job, error, now=rt.now(), backoff=rt.settings.backoff, floor=floor)
        return Update(attempt=settled, change=change)

    failpoints.hit("start.defer")
    await rt.apply_until_stored(attempt.job_id, decide, attempt_id=attempt.id)


async def record_refused(rt: Runtime, attempt: Attempt, error: ProviderError) -> None:
    """End the job: the provider refuses it for good, and nothing was bought."""
    reason = JobError(code=error.code, message=str(error))

    def decide(job: Job, current: Attempt | None) -> Update:
        settled = close_attempt(current, Verdict.NOT_BOUGHT, error)
        if not is_buying(job, attempt):
            return Update(attempt=settled)
        change = fail(job, reason, retryable=False, now=rt.now(), backoff=rt.settings.backoff)
        return Update(attempt=settled, change=change)

    failpoints.hit("start.refuse")
    await rt.apply_until_stored(attempt.job_id, decide, attempt_id=attempt.id)


async def record_unknown(rt: Runtime, attempt: Attempt, error: OutcomeUnknown) -> None:
    """Keep the job until `recover` has found out whether something was bought."""
    reason = JobError(code=error.code, message=str(error))

    def decide(job: Job, current: Attempt | None) -> Update:
        if current is None or current.verdict is not None or current.prediction_id is not None:
            return Update()
        doubted = replace(current, error=reason)
        if job.attempt_id != attempt.id or job.stage is not Stage.STARTING:
            return Update(attempt=doubted)  # the job has ended; what was bought has to be stopped
        return Update(attempt=doubted, change=mark_unknown(job, now=rt.now(), reason=str(error)))

    failpoints.hit("start.doubt")
    await rt.apply_until_stored(attempt.job_id, decide, attempt_id=attempt.id)
    rt.wakeups.notify("recover")


def is_buying(job: Job, attempt: Attempt) -> bool:
    """Whether the job still stands or falls with this attempt's purchase."""
    return job.attempt_id == attempt.id and job.stage in {Stage.STARTING, Stage.UNKNOWN}


def close_attempt(
    current: Attempt | None, verdict: Verdict, error: FleekError | None = None
) -> Attempt | None:
    """Return the attempt with its verdict, or None if it has one or was found to be bought."""
    if current is None or current.verdict is not None or current.prediction_id is not None:
        return None
    reason = None if error is None else JobError(code=error.code, message=str(error))
    return replace(current, verdict=verdict, error=reason, cancel_owed=False)
