"""Tell providers to stop predictions that nobody wants any more.

Whoever decides it sends the first request at once, right after its commit and beside whatever it
does next. What is still owed after that, `fleek.engine.recover` repeats, with growing pauses, until
the prediction has ended.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import ProviderError, ProviderUnavailable
from fleek.domain.job import JobId, PredictionId
from fleek.engine.bucket import TokenBucket
from fleek.engine.conclude import conclude
from fleek.engine.loops import run_logged
from fleek.engine.patience import in_time
from fleek.engine.runtime import Runtime
from fleek.providers.base import UNREACHABLE, Prediction, Provider, budget_of
from fleek.store import attempts

CALL: Final = timedelta(seconds=30)  # the longest that one request may take
STRAY_PAUSES: Final = (2.0, 10.0, 60.0)  # seconds between tries to stop what no attempt stands for

log = structlog.get_logger(__name__)


def stop_soon(rt: Runtime, job_id: JobId) -> None:
    """Send the first request for each prediction that a job owes a cancel; returns at once.

    If too many wait already, the coordinator does it.
    """
    if rt.stops.full:
        return
    rt.stops.sending.begin(run_logged(rt, "stop", _stop_job(rt, job_id), job_id=job_id))


async def _stop_job(rt: Runtime, job_id: JobId) -> None:
    for attempt in await attempts.of_job(rt.db, job_id):
        if attempt.cancel_owed and attempt.verdict is None and attempt.prediction_id is not None:
            await stop(rt, attempt)


async def stop(rt: Runtime, attempt: Attempt) -> bool:
    """Ask the provider once to stop an attempt's prediction, inside its budget of calls.

    If the answer says that it has ended, it is looked at, as an answer to a cancel is no proof; if
    it has, the attempt gets its verdict. Otherwise `watch` sees when it ends. Returns whether the
    provider answered.
    """
    prediction_id = attempt.prediction_id
    if prediction_id is None or attempt.provider not in rt.providers:
        return False  # nobody can ask it; `fleek providers abandon` closes the attempt
    try:
        failpoints.hit("recover.stop")
        seen = await _ask(rt, attempt.provider, prediction_id)
        failpoints.hit("recover.stopped")
        if seen is not None and seen.outcome is not None:
            seen = await _look(rt, attempt.provider, prediction_id)
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


async def _look(rt: Runtime, name: str, prediction_id: PredictionId) -> Prediction | None:
    """Look at a prediction, unless the calls are needed to stop others: then `watch` does it."""
    provider = rt.providers[name]
    calls = rt.stops.line(name, calls_per_minute=budget_of(provider).calls_per_minute).calls
    if not calls.ample:
        return None
    calls.spend(1)
    async with in_time(name, CALL):
        return (await provider.poll([prediction_id])).get(prediction_id)


async def stop_stray(rt: Runtime, provider: str, prediction_id: PredictionId) -> None:
    """Stop a prediction that no attempt stands for; if it fails, try again beside the caller."""
    if not await _stray_asked(rt, provider, prediction_id):
        rt.stops.sending.begin(run_logged(rt, "stop", _insist(rt, provider, prediction_id)))


async def _insist(rt: Runtime, provider: str, prediction_id: PredictionId) -> None:
    for pause in STRAY_PAUSES:
        await asyncio.sleep(pause)
        if await _stray_asked(rt, provider, prediction_id):
            return


async def _stray_asked(rt: Runtime, provider: str, prediction_id: PredictionId) -> bool:
    try:
        failpoints.hit("orphan.cancel")
        await _ask(rt, provider, prediction_id)
    except ProviderError as error:
        log.warning("orphan_not_cancelled", prediction_id=prediction_id, reason=str(error))
        return False
    return True


async def _ask(rt: Runtime, name: str, prediction_id: PredictionId) -> Prediction | None:
    """Send one request; returns what the answer says of this prediction, if anything."""
    provider = rt.providers[name]
    async with _turn(rt, name, provider) as calls:
        try:
            async with in_time(name, CALL):
                seen = await provider.cancel(prediction_id)
        except ProviderUnavailable as error:
            if error.retry_after is not None:
                calls.drain(seconds=error.retry_after.total_seconds())
            raise
    return seen if seen is not None and seen.id == prediction_id else None


@asynccontextmanager
async def _turn(rt: Runtime, name: str, provider: Provider) -> AsyncIterator[TokenBucket]:
    """Wait for a place and for a token of the provider's budget."""
    line = rt.stops.line(name, calls_per_minute=budget_of(provider).calls_per_minute)
    async with line.capacity:
        while not line.calls.take():  # noqa: ASYNC110 - tokens come with time alone
            await asyncio.sleep(line.calls.wait().total_seconds())
        yield line.calls
