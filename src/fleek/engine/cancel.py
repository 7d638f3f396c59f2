"""Cancel jobs, and the predictions that are no longer wanted.

The process that decides it sends the first request at once, after its commit and beside whatever
it does next. `fleek.engine.recover` repeats a request with growing pauses until the prediction has
ended.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import Conflict, NotFound, ProviderError, ProviderUnavailable
from fleek.domain.job import Job, JobId, PredictionId, Status
from fleek.domain.transitions import cancel as cancelled
from fleek.engine.accounts import Account, account_of
from fleek.engine.apply import apply
from fleek.engine.conclude import conclude
from fleek.engine.loops import run_logged
from fleek.engine.provider_limits import CancelSlots, TokenBucket, call_timeout
from fleek.engine.runtime import Runtime
from fleek.providers.base import UNREACHABLE, Prediction, budget_of
from fleek.store import attempts
from fleek.store.updates import Update

CALL: Final = timedelta(seconds=30)  # per request
UNBOUND_PAUSES: Final = (2.0, 10.0, 60.0)  # seconds between tries for a prediction without attempt

log = structlog.get_logger(__name__)


async def cancel(rt: Runtime, job_id: JobId, *, tenant_id: str) -> tuple[Job, bool]:
    """End a job as cancelled; returns it, and False if it was cancelled already.

    Raises:
        NotFound: There is no such job.
        Conflict: It has completed or failed.
    """

    def decide(job: Job, _: Attempt | None) -> Update:
        """Cancel it, and owe its prediction a cancellation. Raises what `cancel` does."""
        if job.tenant_id != tenant_id:
            raise NotFound("there is no such job")
        if job.status is Status.CANCELLED:
            return Update()
        if job.terminal:
            raise Conflict(f"the job has {job.status}", code="already_ended")
        return Update(change=cancelled(job, now=rt.now()), cancel_owed=job.attempt_id is not None)

    applied = await apply(
        rt, job_id, decide, event="cancelled", patience=rt.settings.max_write_wait_seconds
    )
    if applied.changed:
        cancel_predictions_soon(rt, job_id)
    return applied.job, applied.changed


def cancel_predictions_soon(rt: Runtime, job_id: JobId) -> None:
    """Send the first request for each prediction of a job with a pending cancel; returns at once.

    If too many requests wait in this process, the coordinator sends them.
    """
    if rt.cancels.full:
        return
    first = partial(_cancel_predictions, rt, job_id)
    rt.cancels.tasks.begin(run_logged(rt, "stop", first, job_id=job_id))


async def _cancel_predictions(rt: Runtime, job_id: JobId) -> None:
    for attempt in await attempts.of_job(rt.db, job_id):
        if attempt.cancel_owed and attempt.verdict is None and attempt.prediction_id is not None:
            await cancel_prediction(rt, attempt)


async def cancel_prediction(rt: Runtime, attempt: Attempt) -> bool:
    """Send one request to cancel an attempt's prediction, within the provider's call budget.

    An answer that the prediction has ended is no proof, so it is polled then; if it has ended, the
    attempt gets its verdict, else `watch` sees its end. Returns whether the provider answered.
    """
    prediction_id = attempt.prediction_id
    if prediction_id is None or attempt.provider not in rt.providers:
        return False  # `fleek providers abandon` closes attempts of a removed provider
    account = account_of(rt, attempt.provider, attempt.account)
    try:
        failpoints.hit("recover.stop")
        seen = await _request(rt, account, prediction_id)
        failpoints.hit("recover.stopped")
        if seen is not None and seen.outcome is not None:
            seen = await _poll(rt, account, prediction_id)
    except ProviderError as error:
        log.warning(
            "cancel_failed",
            provider=attempt.provider,
            prediction_id=prediction_id,
            reason=str(error),
        )
        return error.code != UNREACHABLE
    if seen is not None and seen.outcome is not None:
        await conclude(rt, attempt, seen)
    return True


async def cancel_unbound(rt: Runtime, attempt: Attempt, prediction_id: PredictionId) -> None:
    """Cancel a prediction that `attempt` made and is not bound to; further tries run beside the caller."""
    account = account_of(rt, attempt.provider, attempt.account)
    if not await _requested(rt, account, prediction_id):
        retries = partial(_retry_unbound, rt, account, prediction_id)
        rt.cancels.tasks.begin(run_logged(rt, "stop", retries))


async def _retry_unbound(rt: Runtime, account: Account, prediction_id: PredictionId) -> None:
    for pause in UNBOUND_PAUSES:
        await asyncio.sleep(pause)
        if await _requested(rt, account, prediction_id):
            return


async def _requested(rt: Runtime, account: Account, prediction_id: PredictionId) -> bool:
    try:
        failpoints.hit("orphan.cancel")
        await _request(rt, account, prediction_id)
    except ProviderError as error:
        log.warning("orphan_not_cancelled", prediction_id=prediction_id, reason=str(error))
        return False
    return True


async def _request(
    rt: Runtime, account: Account, prediction_id: PredictionId
) -> Prediction | None:
    """Send one cancel request; returns the state of the prediction if the answer tells it."""
    async with _slot(_slots(rt, account)) as calls:
        try:
            async with call_timeout(account.key, CALL):
                seen = await account.provider.cancel(prediction_id)
        except ProviderUnavailable as error:
            if error.retry_after is not None:
                calls.drain(seconds=error.retry_after.total_seconds())
            raise
    return seen if seen is not None and seen.id == prediction_id else None


async def _poll(rt: Runtime, account: Account, prediction_id: PredictionId) -> Prediction | None:
    """Poll a prediction, unless the call budget is needed for cancels: then `watch` does it."""
    calls = _slots(rt, account).calls
    if not calls.ample:
        return None
    calls.spend(1)
    async with call_timeout(account.key, CALL):
        return (await account.provider.poll([prediction_id])).get(prediction_id)


def _slots(rt: Runtime, account: Account) -> CancelSlots:
    budget = budget_of(account.provider)
    return rt.cancels.slots(account.key, calls_per_minute=budget.calls_per_minute)


@asynccontextmanager
async def _slot(slots: CancelSlots) -> AsyncIterator[TokenBucket]:
    """Wait for a free slot and a token of the call budget."""
    async with slots.concurrent:
        while not slots.calls.take():  # noqa: ASYNC110 - tokens come with time alone
            await asyncio.sleep(slots.calls.wait().total_seconds())
        yield slots.calls
