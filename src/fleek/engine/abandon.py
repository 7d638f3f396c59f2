"""Close what a provider that is no longer configured is owed: nobody can find it out any more."""

from typing import Final

import structlog

from fleek.domain.attempt import Attempt, Verdict, close_attempt
from fleek.domain.job import AttemptId, Job, JobError, JobId, Stage
from fleek.domain.transitions import fail_permanently
from fleek.engine.apply import apply
from fleek.engine.loops import run_logged
from fleek.engine.runtime import Runtime
from fleek.store import attempts
from fleek.store.updates import Update

REASON: Final = JobError(
    "provider_outcome_unknown",
    "its provider is no longer configured, and the operator has given the prediction up",
)
OPEN: Final = frozenset({Stage.STARTING, Stage.UNKNOWN, Stage.WAITING})

log = structlog.get_logger(__name__)


async def abandon(rt: Runtime, provider: str) -> tuple[int, int]:
    """Write off all attempts of a provider for which money may be on its way.

    Jobs that stand or fall with one of them fail with ``provider_outcome_unknown``. Returns how
    many attempts were closed, and how many could not be.
    """
    closed = failed = 0
    for attempt_id, job_id in await attempts.without_verdict(rt.db, provider):
        if await run_logged(rt, "abandon", _write_off(rt, attempt_id, job_id), job_id=job_id):
            closed += 1
        else:
            failed += 1
    log.warning("provider_abandoned", provider=provider, attempts=closed, failed=failed)
    return closed, failed


async def _write_off(rt: Runtime, attempt_id: AttemptId, job_id: JobId) -> bool:
    def decide(job: Job, current: Attempt | None) -> Update:
        if current is None or current.verdict is not None:
            return Update()
        lost = close_attempt(current, Verdict.LOST, REASON)
        if job.attempt_id != attempt_id or job.stage not in OPEN:
            return Update(attempt=lost)
        return Update(attempt=lost, change=fail_permanently(job, REASON, now=rt.now()))

    await apply(rt, job_id, decide, event="failed", attempt_id=attempt_id)
    return True
