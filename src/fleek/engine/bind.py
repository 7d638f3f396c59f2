"""Write down what was bought, before anything else is done with it."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import NotFound, OutcomeUnknown
from fleek.domain.job import Job, PredictionId, Stage
from fleek.domain.races import AttemptClosed, PredictionTaken
from fleek.domain.transitions import mark_waiting
from fleek.engine.conclude import conclude
from fleek.engine.runtime import Runtime
from fleek.engine.stop import stop_soon, stop_stray
from fleek.engine.verdict import record_unknown
from fleek.providers.base import Prediction
from fleek.store import attempts
from fleek.store.updates import Update

FIRST_LOOK: Final = timedelta(seconds=0.5)
SOONEST: Final = timedelta(milliseconds=10)  # a first look, if the provider is quick and says so

log = structlog.get_logger(__name__)


async def bind(rt: Runtime, attempt: Attempt, prediction: Prediction) -> None:
    """Write down what was bought, whatever has become of the job; then go on with it.

    If the job has moved on, the prediction is stopped. So it is if the attempt was taken for not
    bought, or for lost: then it loses that verdict, and gets the one that the prediction ends with.
    """
    now = rt.now()
    too_late: Verdict | None = None  # what the attempt was taken for
    first_look_at = now + min(max(prediction.eta or FIRST_LOOK, SOONEST), FIRST_LOOK)

    def decide(job: Job, current: Attempt | None) -> Update:
        nonlocal too_late
        if current is not None and current.prediction_id == prediction.id:
            return Update(attempt=current)  # a callback, or a search, was quicker
        if current is None or current.prediction_id is not None:
            raise AttemptClosed(f"attempt {attempt.id} has another prediction")
        bound = replace(
            current,
            prediction_id=prediction.id,
            first_look_at=first_look_at,
            verdict=None,
            error=None,
        )
        too_late = current.verdict
        if too_late is not None:
            return Update(attempt=replace(bound, cancel_owed=True))
        if job.attempt_id != attempt.id or job.stage not in {Stage.STARTING, Stage.UNKNOWN}:
            return Update(attempt=replace(bound, cancel_owed=True))
        return Update(attempt=bound, change=mark_waiting(job, prediction.id, now=now))

    try:
        failpoints.hit("bind.write")
        update = await rt.apply_until_stored(attempt.job_id, decide, attempt_id=attempt.id)
        failpoints.hit("bind.written")
    except (AttemptClosed, NotFound) as error:
        await stop_orphan(rt, attempt, prediction.id, reason=str(error))
        return
    except PredictionTaken as error:  # it runs for somebody else: what we bought is to be found
        await record_unknown(rt, attempt, OutcomeUnknown(str(error)))
        return
    assert update.attempt is not None
    if too_late is not None:
        _note_orphan(rt, attempt, prediction.id, reason=f"its attempt was {too_late}")
    await _go_on(rt, update.attempt, prediction)


async def _go_on(rt: Runtime, bound: Attempt, prediction: Prediction) -> None:
    if prediction.outcome is not None:
        await conclude(rt, bound, prediction)
    elif bound.cancel_owed:
        stop_soon(rt, bound.job_id)
    else:
        rt.wakeups.notify("watch")


async def stop_orphan(
    rt: Runtime, attempt: Attempt, prediction_id: PredictionId, *, reason: str
) -> None:
    """Stop a prediction that no attempt stands for any more; one that has another is let be."""
    if await attempts.bound_ids(rt.db, attempt.provider, [prediction_id]):
        log.warning("prediction_not_ours", attempt_id=str(attempt.id), prediction_id=prediction_id)
        return
    _note_orphan(rt, attempt, prediction_id, reason=reason)
    await stop_stray(rt, attempt.provider, prediction_id)


def _note_orphan(
    rt: Runtime, attempt: Attempt, prediction_id: PredictionId, *, reason: str
) -> None:
    rt.metrics.orphans.inc()
    log.warning(
        "orphan_prediction", attempt_id=str(attempt.id), prediction_id=prediction_id, reason=reason
    )
