"""Write down what was bought, before anything else is done with it."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import OutcomeUnknown, ProviderError
from fleek.domain.job import Job, PredictionId, Stage
from fleek.domain.races import AttemptSettled, PredictionTaken
from fleek.domain.transitions import wait
from fleek.engine.conclude import conclude
from fleek.engine.runtime import Runtime
from fleek.engine.verdict import record_unknown
from fleek.providers.base import Prediction
from fleek.store import attempts
from fleek.store.steps import Step

FIRST_LOOK: Final = timedelta(seconds=0.5)
SOONEST: Final = timedelta(milliseconds=10)  # a first look, if the provider is quick and says so

log = structlog.get_logger(__name__)


async def bind(rt: Runtime, attempt: Attempt, prediction: Prediction) -> None:
    """Write down what was bought, whatever has become of the job; then go on with it.

    If the job has moved on, or the attempt was settled otherwise, the prediction is stopped.
    """
    now = rt.now()
    first_look_at = now + min(max(prediction.eta or FIRST_LOOK, SOONEST), FIRST_LOOK)

    def decide(job: Job, current: Attempt | None) -> Step:
        if current is not None and current.prediction_id == prediction.id:
            return Step(attempt=current)  # a callback, or a search, was quicker
        if current is None or current.verdict is not None:
            raise AttemptSettled(f"attempt {attempt.id} has been settled")
        if current.prediction_id is not None:
            raise AttemptSettled(f"attempt {attempt.id} has another prediction")
        bound = replace(
            current, prediction_id=prediction.id, first_look_at=first_look_at, error=None
        )
        if job.attempt_id != attempt.id or job.stage not in {Stage.STARTING, Stage.UNKNOWN}:
            return Step(attempt=replace(bound, cancel_owed=True))
        return Step(attempt=bound, change=wait(job, prediction.id, now=now))

    try:
        failpoints.hit("bind.write")
        step = await rt.persist(attempt.job_id, decide, attempt_id=attempt.id)
        failpoints.hit("bind.written")
    except AttemptSettled as error:
        await stop_orphan(rt, attempt, prediction.id, reason=str(error))
        return
    except PredictionTaken as error:  # it runs for somebody else: what we bought is to be found
        await record_unknown(rt, attempt, OutcomeUnknown(str(error)))
        return
    assert step.attempt is not None
    if prediction.outcome is not None:
        await conclude(rt, step.attempt, prediction)
    elif step.attempt.cancel_owed:
        rt.bells.ring("recover")
    else:
        rt.bells.ring("watch")


async def stop_orphan(
    rt: Runtime, attempt: Attempt, prediction_id: PredictionId, *, reason: str
) -> None:
    """Stop a prediction that no attempt stands for any more; one that has another is let be."""
    if await attempts.bound(rt.db, attempt.provider, [prediction_id]):
        log.warning("foreign_prediction", attempt=str(attempt.id), prediction=prediction_id)
        return
    rt.metrics.orphans.inc()
    log.warning(
        "orphan_prediction", attempt=str(attempt.id), prediction=prediction_id, reason=reason
    )
    try:
        failpoints.hit("orphan.cancel")
        await rt.providers[attempt.provider].cancel(prediction_id)
    except ProviderError as failure:
        log.warning("orphan_not_cancelled", prediction=prediction_id, reason=str(failure))
