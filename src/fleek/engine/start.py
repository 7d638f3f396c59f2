"""Buy the next prediction of a job: claim, intent, purchase, bind."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import structlog
from uuid_utils.compat import uuid4

from fleek import failpoints, strict
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import (
    AttemptSettled,
    FleekError,
    IllegalTransition,
    OutcomeUnknown,
    PredictionTaken,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    StaleJob,
    WorkerSuspended,
)
from fleek.domain.job import AttemptId, Job, JobError, JobId, PredictionId, Stage, Status
from fleek.domain.transitions import claim, defer, doubt, fail, wait
from fleek.engine import pace
from fleek.engine.conclude import conclude
from fleek.engine.runtime import Runtime
from fleek.providers.base import Prediction
from fleek.store import attempts
from fleek.store.steps import Step

FIRST_LOOK: Final = timedelta(seconds=0.5)
SOONEST: Final = timedelta(milliseconds=10)  # a first look, if the provider is quick and says so

log = structlog.get_logger(__name__)


async def start(rt: Runtime, job_id: JobId) -> None:
    """Start a job that is due, if no other worker has.

    Whatever goes wrong with the provider is recorded on the job. Once the intent is written,
    the purchase is seen through even while the worker is told to stop.
    """
    intended = await intend(rt, job_id)
    rt.bells.ring("admit")  # a nudge has been answered
    if intended is not None:
        await rt.duties.see_through(purchase(rt, *intended))


async def intend(rt: Runtime, job_id: JobId) -> tuple[Job, Attempt] | None:
    """Claim a due job and write the intent to buy, in one transaction.

    Returns None if it is not due any more: another worker has claimed it, or it has ended.
    """

    def decide(job: Job, _: Attempt | None) -> Step:
        now = rt.now()
        if job.status is Status.PENDING and job.run_at > now:
            raise StaleJob(f"job {job.id} is not due")
        if rt.trouble.shuts(job.provider, job.model, now=now):
            raise StaleJob(f"job {job.id} has to wait for {job.provider}")
        change = claim(job, rt.pulse.worker_id, AttemptId(uuid4()), now=now)
        return Step(change=change, intent=_attempt(rt, change.job))

    try:
        failpoints.hit("start.intend")
        step = await rt.persist(job_id, decide)
    except (IllegalTransition, StaleJob):
        return None
    assert step.change is not None
    assert step.intent is not None
    return step.change.job, step.intent


async def purchase(rt: Runtime, job: Job, attempt: Attempt) -> None:
    """Spend money once for a written intent, and record what came of it."""
    try:
        failpoints.hit("start.intended")
        await _spend(rt, job, attempt)
    except Exception:
        await record_unknown(rt, attempt, OutcomeUnknown("starting failed; the log says why"))
        raise


async def _spend(rt: Runtime, job: Job, attempt: Attempt) -> None:
    try:
        rt.pulse.check()  # a worker that may be taken for dead does not buy
        prediction = await buy(rt, job, attempt)
    except OutcomeUnknown as error:
        await pace.failed(rt, job, error)
        await record_unknown(rt, attempt, error)
    except ProviderUnavailable as error:
        paused = await pace.failed(rt, job, error)
        floor = None if paused else error.retry_after  # the account waits, not the job
        await record_not_bought(rt, attempt, error, floor=floor)
    except WorkerSuspended as error:
        await record_not_bought(rt, attempt, error)
    except ProviderRejected as error:
        await pace.failed(rt, job, error)
        await record_refused(rt, attempt, error)
    else:
        await bind(rt, attempt, prediction)
        await pace.sold(rt, job)


async def buy(rt: Runtime, job: Job, attempt: Attempt) -> Prediction:
    """Call the provider's `start`; see there for what it raises."""
    provider = rt.providers.get(job.provider)
    if provider is None:
        message = f"the provider {job.provider} is not configured here"
        raise ProviderUnavailable(message, code="provider_not_configured")
    failpoints.hit("buy.send")
    prediction = await provider.start(job, attempt)
    failpoints.hit("buy.sent")
    return prediction


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


async def record_not_bought(
    rt: Runtime, attempt: Attempt, error: FleekError, *, floor: timedelta | None = None
) -> None:
    """Give the attempt back; the job tries again later, not before `floor` has passed."""

    def decide(job: Job, current: Attempt | None) -> Step:
        settled = settle_attempt(current, Verdict.NOT_BOUGHT, error)
        if not is_buying(job, attempt):
            return Step(attempt=settled)
        change = defer(job, error, now=rt.now(), backoff=rt.settings.backoff, floor=floor)
        return Step(attempt=settled, change=change)

    failpoints.hit("start.defer")
    await rt.persist(attempt.job_id, decide, attempt_id=attempt.id)


async def record_refused(rt: Runtime, attempt: Attempt, error: ProviderError) -> None:
    """End the job: the provider refuses it for good, and nothing was bought."""
    reason = JobError(code=error.code, message=str(error))

    def decide(job: Job, current: Attempt | None) -> Step:
        settled = settle_attempt(current, Verdict.NOT_BOUGHT, error)
        if not is_buying(job, attempt):
            return Step(attempt=settled)
        change = fail(job, reason, retryable=False, now=rt.now(), backoff=rt.settings.backoff)
        return Step(attempt=settled, change=change)

    failpoints.hit("start.refuse")
    await rt.persist(attempt.job_id, decide, attempt_id=attempt.id)


async def record_unknown(rt: Runtime, attempt: Attempt, error: OutcomeUnknown) -> None:
    """Keep the job until `recover` has found out whether something was bought."""
    reason = JobError(code=error.code, message=str(error))

    def decide(job: Job, current: Attempt | None) -> Step:
        if current is None or current.verdict is not None or current.prediction_id is not None:
            return Step()
        doubted = replace(current, error=reason)
        if job.attempt_id != attempt.id or job.stage is not Stage.STARTING:
            return Step(attempt=doubted)  # the job has ended; what was bought has to be stopped
        return Step(attempt=doubted, change=doubt(job, now=rt.now(), reason=str(error)))

    failpoints.hit("start.doubt")
    await rt.persist(attempt.job_id, decide, attempt_id=attempt.id)
    rt.bells.ring("recover")


def is_buying(job: Job, attempt: Attempt) -> bool:
    """Whether the job still stands or falls with this attempt's purchase."""
    return job.attempt_id == attempt.id and job.stage in {Stage.STARTING, Stage.UNKNOWN}


def settle_attempt(
    current: Attempt | None, verdict: Verdict, error: FleekError | None = None
) -> Attempt | None:
    """Return the attempt with its verdict, or None if it has one or was found to be bought."""
    if current is None or current.verdict is not None or current.prediction_id is not None:
        return None
    reason = None if error is None else JobError(code=error.code, message=str(error))
    return replace(current, verdict=verdict, error=reason, cancel_owed=False)


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


def _attempt(rt: Runtime, job: Job) -> Attempt:
    assert job.attempt_id is not None
    assert job.worker_id is not None
    return Attempt(
        id=job.attempt_id,
        job_id=job.id,
        n=job.ordinal,
        provider=job.provider,
        model=job.model,
        nonce=secrets.token_hex(16),
        request_hash=request_hash(job),
        submitted_at=job.updated_at,
        timeout=rt.settings.attempt_timeout,
        worker_id=job.worker_id,
    )


def request_hash(job: Job) -> str:
    """Return what twins share: requests that the provider cannot tell apart."""
    asked: Mapping[str, Any] = {
        "provider": job.provider,
        "model": job.model,
        "prompt": job.prompt,
        "input": dict(sorted(job.input.items())),
    }
    return hashlib.sha256(strict.dumps(asked)).hexdigest()
