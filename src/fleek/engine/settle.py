"""Find out whether an attempt with an unknown outcome was bought."""

from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.domain.job import Job, JobError, give_up
from fleek.engine.runtime import Runtime
from fleek.engine.start import bind, buy, is_buying, record_refused, settle_attempt
from fleek.store import jobs
from fleek.store.steps import Step

CRASHED = JobError("worker_crashed", "every worker that started this job died")
UNKNOWN = JobError(
    "provider_outcome_unknown", "it is not known whether the provider was paid for this job"
)


async def settle(rt: Runtime, attempt: Attempt) -> None:
    """Settle one attempt, in the way its provider allows; what fails is tried again later.

    Only for an attempt that nobody is buying any more: its worker is dead, or has said so.
    """
    job = await jobs.peek(rt.db, attempt.job_id)
    if job.crashes >= rt.settings.max_crashes and is_buying(job, attempt):
        await _write_off(rt, attempt, CRASHED)
        return
    provider = rt.providers.get(attempt.provider)
    if provider is None:
        return  # until the operator configures it again, or the deadline ends the job
    if provider.settles == "repeat":
        await _repeat(rt, job, attempt)
    else:
        await _write_off(rt, attempt, UNKNOWN)


async def _repeat(rt: Runtime, job: Job, attempt: Attempt) -> None:
    """Start the same attempt again: to its provider that is the same purchase."""
    try:
        prediction = await buy(rt, job, attempt)
    except ProviderRejected as error:
        await record_refused(rt, attempt, error)
    except (ProviderUnavailable, OutcomeUnknown):
        return
    else:
        await bind(rt, attempt, prediction)


async def _write_off(rt: Runtime, attempt: Attempt, reason: JobError) -> None:
    """End the attempt as lost, and the job that stands or falls with it as failed."""

    def decide(job: Job, current: Attempt | None) -> Step:
        lost = settle_attempt(current, Verdict.LOST)
        if not is_buying(job, attempt):
            return Step(attempt=lost)
        return Step(attempt=lost, change=give_up(job, reason, now=rt.now()))

    await rt.take(attempt.job_id, decide, attempt_id=attempt.id)
