"""Start the next prediction of a job: claim, intent, call, outcome, binding."""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, TypeGuard

import structlog

from fleek import failpoints, strict
from fleek.domain.attempt import (
    Attempt,
    Verdict,
    attempt_id_of,
    bind_prediction,
    close_attempt,
    owe_cancel,
)
from fleek.domain.budgets import day_of
from fleek.domain.charges import priced_by
from fleek.domain.copies import replace
from fleek.domain.errors import (
    AttemptClosed,
    FleekError,
    IllegalTransition,
    NotFound,
    OutcomeUnknown,
    OutOfBudget,
    PredictionTaken,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    StaleJob,
    WorkerSuspended,
)
from fleek.domain.job import Job, JobError, JobId, PredictionId, Stage, Status
from fleek.domain.transitions import (
    claim,
    mark_searched,
    mark_unknown,
    mark_waiting,
)
from fleek.domain.values import dataclass
from fleek.engine import failover, throttle
from fleek.engine.accounts import account_of, choose_account
from fleek.engine.apply import apply_until_stored
from fleek.engine.cancel import cancel_predictions_soon, cancel_unbound
from fleek.engine.clock import STEP
from fleek.engine.conclude import conclude
from fleek.engine.inputs import Prepared, content_of, prepare, route_of
from fleek.engine.money import check_max_cost, wait_for_money
from fleek.engine.runtime import Runtime
from fleek.providers.base import Prediction, SupportsHistory, SupportsServerTime, time_at
from fleek.registry import supports
from fleek.store import attempts
from fleek.store.updates import Intent, StartLimit, Update
from fleek.tracing import job_span

INTENT_LASTS: Final = timedelta(seconds=15)  # less than the margin of a search for its prediction
ASK_SECONDS: Final = 1.0  # the longest wait for the time at the providers
LAST_WORDS_SECONDS: Final = 3.0  # to record an unknown outcome when the process stops
FIRST_LOOK: Final = timedelta(seconds=0.5)
SEARCHED_FIRST: Final = "the database was restored: the provider's predictions are searched first"
RESTORED: Final = JobError(
    "provider_outcome_unknown",
    "the database was restored, and it is not known whether this job was paid for after the backup; "
    "a retry creates another prediction",
)
SOONEST: Final = timedelta(milliseconds=10)  # a first look, if the provider announces a quick end

log = structlog.get_logger(__name__)


async def start(rt: Runtime, job_id: JobId) -> None:
    """Start a job that is due, unless another worker has.

    Every failure of the provider is recorded on the job. Shutdown does not interrupt it: an
    intent without an outcome would count as a crash.
    """
    await rt.shielded.run(_start(rt, job_id))


async def _start(rt: Runtime, job_id: JobId) -> None:
    prepared = None
    try:
        intended = await intend(rt, job_id)
    except _InputsNeeded as needed:
        if job_id in rt.preparing:  # dispatched again meanwhile
            return
        rt.preparing.add(job_id)
        try:
            prepared = await prepare(rt, needed.job)
            intended = None if prepared is None else await intend(rt, job_id, prepared)
        finally:
            rt.preparing.discard(job_id)
    rt.wakeups.notify("admit")  # a dispatched id has been handled
    if intended is not None:
        job, attempt = intended
        if prepared is not None:
            job = replace(job, input=prepared.parameters)
        await carry_out(rt, job, attempt)


class _InputsNeeded(StaleJob):
    """The job has inputs, which have to be handed to its provider first, or is to be moderated."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} is to be prepared")
        self.job = job


async def intend(
    rt: Runtime, job_id: JobId, prepared: Prepared | None = None
) -> tuple[Job, Attempt] | None:
    """Claim a due job and write the intent to pay, in one transaction; `prepared`: its inputs.

    Returns None if it may not start: another worker has claimed it, it has ended, as many jobs of its
    tenant run as may, the tenant is disabled, or no budget has room for another attempt.
    """

    def decide(job: Job, _: Attempt | None) -> Intent:
        """Claim the job for a new attempt. Raises what `intend` does."""
        now = rt.now()
        if job.status is Status.PENDING and job.run_at > now + STEP:
            raise StaleJob(f"job {job.id} is not due")
        if rt.pauses.is_paused(job.provider, job.model, now=now):
            raise StaleJob(f"job {job.id} has to wait for {job.provider}")
        asked = bool(job.inputs) or rt.moderator is not None
        if asked and prepared is None and job.status is Status.PENDING:
            raise _InputsNeeded(job)
        if prepared is not None and prepared.route != route_of(job):
            raise StaleJob(f"job {job.id} has gone on at another route")
        account = _account(rt, job, prepared)
        nonce = secrets.token_hex(16)
        change = claim(job, rt.lease.worker_id, attempt_id_of(job.id, nonce), now=now)
        attempt = _attempt(rt, change.job, nonce, prepared)
        check_max_cost(job, attempt)
        return Intent(change=change, intent=replace(attempt, account=account))

    await _ask_times(rt)
    limit = StartLimit(rt.settings.max_running, day=day_of(rt.now()))
    try:
        applied = await apply_until_stored(rt, job_id, decide, event="starting", start=limit)
    except _InputsNeeded:
        raise
    except OutOfBudget as error:
        await wait_for_money(rt, job_id, error)
        return None
    except (IllegalTransition, StaleJob):
        return None
    return applied.job, applied.update.intent


def _account(rt: Runtime, job: Job, prepared: Prepared | None) -> str | None:
    """Return the account for the next attempt, by its name: the one that has the inputs, if any.

    Raises:
        StaleJob: All are paused.
    """
    if prepared is not None and prepared.account is not None:
        return prepared.account
    if job.provider not in rt.providers:
        return None
    account = choose_account(rt, job.provider)
    if account is None:
        raise StaleJob(f"job {job.id} has to wait for an account of {job.provider}")
    return account.name


async def _ask_times(rt: Runtime) -> None:
    """Make the time at each provider known, to be written with the intent.

    A provider that does not answer at once delays nothing: its time is then not known.
    """
    for provider in rt.providers.values():
        if supports(provider, SupportsServerTime):
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_SECONDS):
                    await provider.ask_time()


def _attempt(rt: Runtime, job: Job, nonce: str, prepared: Prepared | None) -> Attempt:
    sent = None if prepared is None else prepared.sent or None
    return Attempt(
        id=attempt_id_of(job.id, nonce),
        job_id=job.id,
        number=job.ordinal,
        provider=job.provider,
        model=job.model,
        nonce=nonce,
        request_hash=request_hash(job, sent),
        inputs=sent,
        submitted_at=job.updated_at,
        provider_time=time_at(rt.providers.get(job.provider)),
        timeout=rt.settings.attempt_timeout,
        worker_id=rt.lease.worker_id,
        estimate=rt.prices.estimate(job.provider, job.model, priced_by(job)),
    )


def request_hash(job: Job, sent: Mapping[str, Any] | None = None) -> str:
    """Return what duplicates share: requests that the provider cannot tell apart.

    `sent`: its media inputs, as `Attempt.inputs`: their bytes count, not how they are named.
    """
    request: Mapping[str, Any] = {
        "provider": job.provider,
        "model": job.model,
        "prompt": job.prompt,
        "input": dict(sorted(content_of(job, sent).items())),
    }
    return hashlib.sha256(strict.dumps(request)).hexdigest()


async def carry_out(rt: Runtime, job: Job, attempt: Attempt) -> None:
    """Start the prediction of a written intent once, and record the outcome."""
    try:
        with job_span("start", job, fleek__attempt=attempt.number):
            await _carry_out(rt, job, attempt)
    except asyncio.CancelledError:  # the process stops and cannot wait for the answer
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await record_unknown(rt, attempt, OutcomeUnknown("the worker has stopped"))
        raise
    except Exception:
        await record_unknown(rt, attempt, OutcomeUnknown("starting failed; the log says why"))
        raise


async def _carry_out(rt: Runtime, job: Job, attempt: Attempt) -> None:
    if is_to_be_searched(rt, job):
        await _search_first(rt, job, attempt)
        return
    known = job.provider in rt.providers
    account = account_of(rt, job.provider, attempt.account).key if known else None
    try:
        rt.lease.check()  # without a valid lease the worker must not start a prediction
        _check_age(rt, attempt)
        prediction = await start_prediction(rt, job, attempt)
    except OutcomeUnknown as error:
        await throttle.record_failure(rt, job, error, account)
        await record_unknown(rt, attempt, error)
    except ProviderUnavailable as error:
        paused = await throttle.record_failure(rt, job, error, account)
        floor = None if paused else error.retry_after  # the account waits, not the job
        await record_not_created(rt, attempt, error, floor=floor)
    except WorkerSuspended as error:
        await record_not_created(rt, attempt, error)
    except ProviderRejected as error:
        await throttle.record_failure(rt, job, error, account)
        await record_refused(rt, attempt, error)
    else:
        await bind(rt, attempt, prediction)
        await throttle.record_success(rt, job, account)


def is_to_be_searched(rt: Runtime, job: Job) -> bool:
    """Whether a prediction may have been created that was lost with the database, see `restore`.

    A provider to which starts are repeated is our own: it is not paid.
    """
    provider = rt.providers.get(job.provider)
    if job.search_since is None or provider is None:
        return False
    return provider.reconcile_by != "repeat"


async def _search_first(rt: Runtime, job: Job, attempt: Attempt) -> None:
    """Leave a restored job to reconciliation, or end it if its provider cannot be searched."""
    if isinstance(rt.providers[job.provider], SupportsHistory):
        await record_unknown(rt, attempt, OutcomeUnknown(SEARCHED_FIRST))
    else:
        refused = ProviderRejected(RESTORED.message, code=RESTORED.code)
        await record_refused(rt, attempt, refused)


def _check_age(rt: Runtime, attempt: Attempt) -> None:
    """Make sure that the intent was written just now.

    Searches for a lost prediction look around that time. The write may have taken long, as while
    the database was unavailable after the commit.

    Raises:
        WorkerSuspended: The intent is too old; the job needs a new one.
    """
    if abs(rt.now() - attempt.submitted_at) > INTENT_LASTS:
        raise WorkerSuspended("storing the intent took too long; the job is started again")


async def start_prediction(rt: Runtime, job: Job, attempt: Attempt) -> Prediction:
    """Call the provider's `start`; see there for what it raises."""
    if job.provider not in rt.providers:
        message = f"the provider {job.provider} is not configured here"
        raise ProviderUnavailable(message, code="provider_not_configured")
    provider = account_of(rt, job.provider, attempt.account).provider
    failpoints.hit("start.send")
    prediction = await provider.start(job, attempt)
    failpoints.hit("start.sent")
    return prediction


async def record_not_created(
    rt: Runtime,
    attempt: Attempt,
    error: FleekError,
    *,
    floor: timedelta | None = None,
    searched: bool = False,
) -> None:
    """Give the attempt back; the job tries again later, not before `floor`, or on its next route.

    `searched`: the job, which was restored, was searched for at its providers, and has no prediction.
    """

    def decide(job: Job, current: Attempt | None) -> Update:
        """Close the attempt; its job is started later or elsewhere, unless it has moved on."""
        closed = close_unbound(current, Verdict.NOT_CREATED, error)
        if not awaits_start(job, attempt):
            return Update(attempt=closed)
        if searched:
            job = mark_searched(job)
        change = failover.unavailable(rt, job, error, floor=floor)
        return Update(attempt=closed, change=change)

    await apply_until_stored(rt, attempt.job_id, decide, event="deferred", attempt_id=attempt.id)


async def record_refused(rt: Runtime, attempt: Attempt, error: ProviderError) -> None:
    """End the job, or go on at its next route: it was refused for good, and nothing was paid for."""
    reason = JobError(code=error.code, message=str(error))

    def decide(job: Job, current: Attempt | None) -> Update:
        closed = close_unbound(current, Verdict.NOT_CREATED, error)
        if not awaits_start(job, attempt):
            return Update(attempt=closed)
        change = failover.refused(rt, job, reason)
        return Update(attempt=closed, change=change)

    await apply_until_stored(rt, attempt.job_id, decide, event="failed", attempt_id=attempt.id)


async def record_unknown(rt: Runtime, attempt: Attempt, error: OutcomeUnknown) -> None:
    """Keep the job until reconciliation has found out whether a prediction was created."""
    reason = JobError(code=error.code, message=str(error))

    def decide(job: Job, current: Attempt | None) -> Update:
        """Note it on the attempt, and on the job unless that has gone on or ended."""
        if not is_unbound(current):
            return Update()
        unknown = replace(current, error=reason)
        if job.attempt_id != attempt.id or job.stage is not Stage.STARTING:
            return Update(attempt=unknown)  # the job has ended; its prediction has to be cancelled
        return Update(attempt=unknown, change=mark_unknown(job, now=rt.now(), reason=str(error)))

    await apply_until_stored(rt, attempt.job_id, decide, event="unknown", attempt_id=attempt.id)
    rt.wakeups.notify("recover")


def awaits_start(job: Job, attempt: Attempt) -> bool:
    """Whether the job still depends on whether this attempt's prediction is created."""
    return job.attempt_id == attempt.id and job.stage in {Stage.STARTING, Stage.UNKNOWN}


def is_unbound(attempt: Attempt | None) -> TypeGuard[Attempt]:
    """Whether an attempt has neither a verdict nor a prediction."""
    return attempt is not None and attempt.verdict is None and attempt.prediction_id is None


def close_unbound(
    current: Attempt | None, verdict: Verdict, error: FleekError | None = None
) -> Attempt | None:
    """Return the attempt with its verdict, or None if it has a verdict or a prediction already."""
    if not is_unbound(current):
        return None
    reason = None if error is None else JobError(code=error.code, message=str(error))
    return close_attempt(current, verdict, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Binding(Update):
    """An update that binds a prediction to its attempt."""

    premature: Verdict | None = None  # that the attempt had by then


async def bind(rt: Runtime, attempt: Attempt, prediction: Prediction) -> None:
    """Record the prediction id even if the job has moved on, then continue.

    If the job has moved on, the prediction is cancelled. So it is if the attempt was closed as not
    paid for, or as lost: that verdict is withdrawn, and replaced when the prediction ends.
    """
    now = rt.now()
    first_look_at = now + min(max(prediction.eta or FIRST_LOOK, SOONEST), FIRST_LOOK)

    def decide(job: Job, current: Attempt | None) -> _Binding:
        return _binding(job, current, attempt, prediction.id, now=now, first_look_at=first_look_at)

    try:
        applied = await apply_until_stored(
            rt, attempt.job_id, decide, event="waiting", attempt_id=attempt.id
        )
    except (AttemptClosed, NotFound) as error:
        await stop_orphan(rt, attempt, prediction.id, reason=str(error))
        return
    except PredictionTaken as error:  # it belongs to another attempt: reconciliation finds ours
        await record_unknown(rt, attempt, OutcomeUnknown(str(error)))
        return
    if (verdict := applied.update.premature) is not None:
        _note_orphan(rt, attempt, prediction.id, reason=f"its attempt was {verdict}")
    if prediction.outcome is not None:
        await conclude(rt, attempt, prediction)
    elif applied.job.stage is Stage.WAITING and applied.job.attempt_id == attempt.id:
        rt.bound[attempt.provider].append(_waiting(attempt, prediction.id, first_look_at))
        rt.wakeups.notify("watch")
    else:
        cancel_predictions_soon(rt, attempt.job_id)


def _waiting(
    attempt: Attempt, prediction_id: PredictionId, first_look_at: datetime
) -> attempts.Waiting:
    """Return what `watch` would read of a prediction that was bound now."""
    return attempts.Waiting(
        id=attempt.id,
        job_id=attempt.job_id,
        provider=attempt.provider,
        prediction_id=prediction_id,
        submitted_at=attempt.submitted_at,
        timeout_seconds=attempt.timeout.total_seconds(),
        first_look_at=first_look_at,
        number=attempt.number,
        account=attempt.account,
    )


def _binding(
    job: Job,
    current: Attempt | None,
    attempt: Attempt,
    prediction_id: PredictionId,
    *,
    now: datetime,
    first_look_at: datetime,
) -> _Binding:
    """Decide on a prediction of `attempt`, which is `current` under lock.

    Raises:
        AttemptClosed: The attempt has another prediction.
    """
    if current is not None and current.prediction_id == prediction_id:
        return _Binding()  # a callback, or a search, was quicker
    if current is None or current.prediction_id is not None:
        raise AttemptClosed(f"attempt {attempt.id} has another prediction")
    bound = bind_prediction(current, prediction_id, first_look_at=first_look_at)
    if current.verdict is not None or not awaits_start(job, attempt):
        return _Binding(attempt=owe_cancel(bound), premature=current.verdict)
    return _Binding(attempt=bound, change=mark_waiting(job, prediction_id, now=now))


async def stop_orphan(
    rt: Runtime, attempt: Attempt, prediction_id: PredictionId, *, reason: str
) -> None:
    """Cancel a prediction without an attempt; one that is bound to another attempt is left."""
    if await attempts.bound_ids(rt.db, attempt.provider, [prediction_id]):
        log.warning("prediction_not_ours", attempt_id=str(attempt.id), prediction_id=prediction_id)
        return
    _note_orphan(rt, attempt, prediction_id, reason=reason)
    await cancel_unbound(rt, attempt, prediction_id)


def _note_orphan(
    rt: Runtime, attempt: Attempt, prediction_id: PredictionId, *, reason: str
) -> None:
    rt.metrics.orphans.inc()
    log.warning(
        "orphan_prediction", attempt_id=str(attempt.id), prediction_id=prediction_id, reason=reason
    )
