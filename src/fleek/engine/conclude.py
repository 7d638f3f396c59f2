"""A prediction has ended: keep the provider's answer and move the job on.

The answer is kept with the attempt, in the database. Large content in it goes to storage first:
a picture does not belong into the database, and a provider that forgets its answers leaves no
other moment to save it.
"""

from typing import Final

import structlog

from fleek.dispatch.base import Slot
from fleek.domain.attempt import Attempt, AttemptIdentity, Verdict, close_attempt
from fleek.domain.charges import priced_by
from fleek.domain.copies import replace
from fleek.domain.errors import HostError, ProviderError
from fleek.domain.job import Change, Job, JobError, Stage
from fleek.domain.media import Output
from fleek.domain.money import Micros
from fleek.domain.provider_logs import PredictionLog, read_log
from fleek.domain.text import LongText, strip_unstorable
from fleek.domain.transitions import collect, mark_predicted
from fleek.engine import failover
from fleek.engine.apply import apply, apply_until_stored
from fleek.engine.collect import is_large, release, store_output
from fleek.engine.dispatches import ClaimedCollect, dispatch_collect, reserve_collect
from fleek.engine.paid import recalls
from fleek.engine.runtime import Runtime
from fleek.providers.base import Failed, Outcome, Prediction, Succeeded, SupportsCost
from fleek.registry import supports
from fleek.store import jobs
from fleek.store.updates import Applied, Update

MAX_KEPT_CHARS: Final = 16 * 1024**2  # of large content in the answer while storage is away
EMPTY: Final = Failed(
    "empty_output", "the prediction succeeded and has no output", retryable=False
)
TIMEOUT: Final = JobError("attempt_timeout", "the prediction ran longer than allowed")

log = structlog.get_logger(__name__)


async def conclude(rt: Runtime, attempt: AttemptIdentity, prediction: Prediction) -> None:
    """Store the end of an attempt's prediction; one that was stored before is left as it is.

    The attempt gets its verdict even if the job has moved on. If the job still waits for this
    attempt, it goes on to `collect`, to its next attempt or to its end. A running prediction
    changes nothing.

    Raises:
        StorageError: The answer holds files that cannot be kept now; nothing was written.
    """
    if prediction.outcome is None:
        return
    outcome = await _kept(rt, attempt, prediction.outcome)
    slot = reserve_collect(rt) if isinstance(outcome, Succeeded) else None
    if slot is None:
        applied = await _conclude(rt, attempt, prediction, outcome)
        if applied.changed and applied.job.stage is Stage.COLLECTING:
            await dispatch_collect(rt, applied.job)
    else:  # nobody else looks for a job that is claimed: its collect follows, whatever the caller does
        await rt.shielded.run(_conclude_and_collect(rt, attempt, prediction, outcome, slot))
    rt.wakeups.notify("admit")


async def _conclude_and_collect(
    rt: Runtime, attempt: AttemptIdentity, prediction: Prediction, outcome: Outcome, slot: Slot
) -> None:
    """Claim the job for this process in the transaction that concludes, and run its collect in `slot`.

    A claim of its own would be another transaction, and the job would be read again.
    """
    runs = False
    try:
        applied = await _conclude(rt, attempt, prediction, outcome, claims=True)
        if applied.update.earlier is not None:
            job = applied.job
            rt.claimed[job.id] = ClaimedCollect(job, applied.update.attempt)
            runs = slot.run(job.id)
            if not runs:  # the process is being stopped
                await release(rt, rt.claimed.pop(job.id).job)
    finally:
        if not runs:
            slot.free()


async def _conclude(
    rt: Runtime,
    attempt: AttemptIdentity,
    prediction: Prediction,
    outcome: Outcome,
    *,
    claims: bool = False,
) -> Applied[Update]:
    """Write the end of a prediction; `claims`: this process also claims the job, if it is to be collected.

    A claim that may have been written is written for certain: it must not stay without its collect.
    """

    def decide(job: Job, current: Attempt | None) -> Update:
        """Close the attempt once; the job goes on only if it waits for this attempt."""
        if current is None or current.verdict is not None:
            return Update()
        if current.prediction_id != prediction.id:
            return Update()  # another prediction was bound meanwhile
        cost = _cost(rt, job, current, prediction)
        closed = _closed(current, prediction, outcome, cost)
        log = log_of(current.number, prediction)
        if job.attempt_id != attempt.id or job.stage is not Stage.WAITING:
            return Update(attempt=closed, log=log)
        change = _next(rt, job, current, outcome)
        if not claims:
            return Update(attempt=closed, change=change, log=log)
        claimed = collect(change.job, rt.lease.worker_id, now=change.job.updated_at)
        return Update(attempt=closed, earlier=change, change=claimed, log=log)

    job_id, attempt_id = attempt.job_id, attempt.id
    applied = (
        await apply_until_stored(rt, job_id, decide, event="predicted", attempt_id=attempt_id)
        if claims
        else await apply(rt, job_id, decide, event="predicted", attempt_id=attempt_id)
    )
    superseded = applied.update.attempt is not None and not applied.changed
    if superseded and isinstance(outcome, Succeeded):
        await _discard_inline_outputs(rt, outcome)
    return applied


def log_of(attempt: int, prediction: Prediction) -> PredictionLog | None:
    """Return what a provider has logged of an attempt's prediction; None: nothing."""
    text = read_log(prediction.log)
    return None if text is None else PredictionLog(attempt, text)


async def _kept(rt: Runtime, attempt: AttemptIdentity, outcome: Outcome) -> Outcome:
    """Return the outcome as it is kept in the database."""
    if isinstance(outcome, Failed):
        return outcome
    return await store_inline_outputs(rt, attempt, outcome) if outcome.outputs else EMPTY


def _cost(rt: Runtime, job: Job, attempt: Attempt, prediction: Prediction) -> Micros | None:
    """Return what an ended prediction has cost: by its provider, else by the price list."""
    provider: object = rt.providers.get(attempt.provider)  # any account reads the answer alike
    if supports(provider, SupportsCost) and (own := provider.cost(prediction)) is not None:
        return own
    price = rt.prices.find(attempt.provider, attempt.model)
    outcome = prediction.outcome
    made = len(outcome.outputs) if isinstance(outcome, Succeeded) else None
    return None if price is None else price.cost(priced_by(job), prediction.metrics, outputs=made)


def _closed(
    current: Attempt, prediction: Prediction, outcome: Outcome, cost: Micros | None
) -> Attempt:
    ended = replace(current, metrics=dict(prediction.metrics))
    if isinstance(outcome, Succeeded):
        result = {"outputs": [output.to_json() for output in outcome.outputs]}
        return close_attempt(replace(ended, result=result), Verdict.SUCCEEDED, cost=cost)
    verdict = Verdict.CANCELLED if current.cancel_owed else Verdict.FAILED
    return close_attempt(ended, verdict, JobError(outcome.code, outcome.message), cost=cost)


def _next(rt: Runtime, job: Job, current: Attempt, outcome: Outcome) -> Change:
    if isinstance(outcome, Succeeded):
        return mark_predicted(job, now=rt.now())
    if current.cancel_owed:  # cancelled by us, as it ran too long
        return failover.failed(rt, job, TIMEOUT, retryable=True)
    error = JobError(outcome.code, outcome.message)
    return failover.failed(rt, job, error, retryable=outcome.retryable)


async def store_inline_outputs(
    rt: Runtime, attempt: AttemptIdentity, outcome: Succeeded
) -> Outcome:
    """Return the outcome with its large content in storage, under the keys of the job's media.

    What cannot be stored now is left to `collect`: at the provider if it can be asked again,
    else, up to a limit, in the answer. Content that is too large for both and can never be read
    makes a failed prediction.

    Raises:
        HostError: It cannot be kept now; the answer must be asked for again.
    """
    if not any(map(is_large, outcome.outputs)):
        return outcome
    job = await jobs.get_any_tenant(rt.db, attempt.job_id)
    try:
        stored = [
            await _store_inline_output(rt, job, attempt, index, output)
            if is_large(output)
            else output
            for index, output in enumerate(outcome.outputs)
        ]
    except (HostError, ProviderError) as error:
        left = _left(rt, attempt, outcome)
        if left is not None:
            log.warning("inline_outputs_not_stored", attempt_id=str(attempt.id), reason=str(error))
            return left
        if isinstance(error, HostError):
            raise
        return Failed(error.code, str(error), retryable=False)
    return Succeeded(tuple(stored))


async def _store_inline_output(
    rt: Runtime, job: Job, attempt: AttemptIdentity, index: int, output: Output
) -> Output:
    most = rt.settings.max_job_bytes
    media = await store_output(rt, job, attempt, index, output, most=most)
    return replace(output, uri=None, text=None, key=media.key)


def _left(rt: Runtime, attempt: AttemptIdentity, outcome: Succeeded) -> Succeeded | None:
    """Return the outcome with its large content left out or left in; None: it is too large."""
    if recalls(rt, attempt.provider) is not None:
        outputs = (Output() if is_large(output) else output for output in outcome.outputs)
        return Succeeded(tuple(outputs))
    size = sum(len(output.uri or output.text or "") for output in outcome.outputs)
    if size > MAX_KEPT_CHARS:
        return None
    return Succeeded(tuple(map(_plain, outcome.outputs)))


def _plain(output: Output) -> Output:
    uri, text = output.uri, output.text
    return replace(
        output,
        uri=strip_unstorable(str(uri)) if isinstance(uri, LongText) else uri,
        text=strip_unstorable(str(text)) if isinstance(text, LongText) else text,
    )


async def _discard_inline_outputs(rt: Runtime, outcome: Succeeded) -> None:
    """Remove what was stored of an answer: the job has moved on."""
    for output in outcome.outputs:
        if output.key is not None:
            await rt.storage.delete(output.key)
