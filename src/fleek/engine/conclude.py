"""A prediction has ended: keep the provider's answer and move the job on."""

from dataclasses import replace

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import DispatcherUnavailable
from fleek.domain.job import Change, Job, JobError, Stage
from fleek.domain.transitions import fail, mark_predicted
from fleek.engine.inline import discard_inline_outputs, store_inline_outputs
from fleek.engine.runtime import Runtime
from fleek.providers.base import Failed, Prediction, Succeeded
from fleek.store.updates import Update

log = structlog.get_logger(__name__)

EMPTY = Failed("empty_output", "the prediction succeeded and has no output", retryable=False)


async def conclude(rt: Runtime, attempt: Attempt, prediction: Prediction) -> None:
    """Store the end of an attempt's prediction; what was seen before is left as it is.

    The attempt gets its verdict whatever has become of the job. The job goes on to `collect`,
    to its next attempt or to its end, if it still waits for this attempt.

    Raises:
        StorageError: The answer holds files that cannot be kept now; nothing was written.
    """
    outcome = prediction.outcome
    assert outcome is not None
    if isinstance(outcome, Succeeded):
        outcome = await store_inline_outputs(rt, attempt, outcome) if outcome.outputs else EMPTY

    def decide(job: Job, current: Attempt | None) -> Update:
        if current is None or current.verdict is not None:
            return Update()
        if current.prediction_id != prediction.id:
            return Update()  # it was bound to another one meanwhile
        settled = _closed(current, prediction, outcome)
        if job.attempt_id != attempt.id or job.stage is not Stage.WAITING:
            return Update(attempt=settled)
        return Update(attempt=settled, change=_next(rt, job, current, outcome))

    failpoints.hit("conclude.write")
    update = await rt.apply(attempt.job_id, decide, attempt_id=attempt.id)
    failpoints.hit("conclude.written")
    if isinstance(outcome, Succeeded) and update.attempt is not None and update.change is None:
        await discard_inline_outputs(rt, outcome)
    if update.change is not None and update.change.job.stage is Stage.COLLECTING:
        try:
            await rt.dispatcher.enqueue("collect", attempt.job_id)
        except DispatcherUnavailable as error:
            log.warning("dispatch_failed", job_id=str(attempt.job_id), reason=str(error))
    rt.wakeups.notify("admit")


def _closed(current: Attempt, prediction: Prediction, outcome: Succeeded | Failed) -> Attempt:
    kept = replace(current, metrics=dict(prediction.metrics), cancel_owed=False)
    if isinstance(outcome, Succeeded):
        stored = {"outputs": [output.to_json() for output in outcome.outputs]}
        return replace(kept, verdict=Verdict.SUCCEEDED, result=stored)
    verdict = Verdict.CANCELLED if current.cancel_owed else Verdict.FAILED
    return replace(kept, verdict=verdict, error=JobError(outcome.code, outcome.message))


def _next(rt: Runtime, job: Job, current: Attempt, outcome: Succeeded | Failed) -> Change:
    now = rt.now()
    if isinstance(outcome, Succeeded):
        return mark_predicted(job, now=now)
    error = JobError(outcome.code, outcome.message)
    if current.cancel_owed:  # we stopped it ourselves, as it ran too long
        error = JobError("attempt_timeout", "the prediction ran longer than allowed")
    retryable = outcome.retryable or current.cancel_owed
    return fail(job, error, retryable=retryable, now=now, backoff=rt.settings.backoff)
