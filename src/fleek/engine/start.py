"""Buy the next prediction of a job: claim, intent, purchase, bind."""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from uuid_utils.compat import uuid4

from fleek import failpoints, strict
from fleek.domain.attempt import Attempt
from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.domain.job import AttemptId, Job, JobId, Status
from fleek.domain.races import IllegalTransition, StaleJob, WorkerSuspended
from fleek.domain.transitions import claim
from fleek.engine import throttle
from fleek.engine.bind import bind
from fleek.engine.clock import STEP
from fleek.engine.runtime import Runtime
from fleek.engine.verdict import record_not_bought, record_refused, record_unknown
from fleek.providers.base import Prediction, SupportsServerTime, time_at
from fleek.store.updates import Update

INTENT_LASTS: Final = timedelta(
    seconds=15
)  # less than the margin of a search for a lost prediction
ASK_SECONDS: Final = 1.0  # the longest that a purchase waits for the time at providers
LAST_WORDS_SECONDS: Final = 3.0  # to write down that nobody knows what was bought


async def start(rt: Runtime, job_id: JobId) -> None:
    """Start a job that is due, if no other worker has.

    Whatever goes wrong with the provider is recorded on the job. It is seen through even while
    the worker is told to stop: an intent that nobody acts on would count as a crash.
    """
    await rt.shielded.run(_start(rt, job_id))


async def _start(rt: Runtime, job_id: JobId) -> None:
    intended = await intend(rt, job_id)
    rt.wakeups.notify("admit")  # a nudge has been answered
    if intended is not None:
        await purchase(rt, *intended)


async def intend(rt: Runtime, job_id: JobId) -> tuple[Job, Attempt] | None:
    """Claim a due job and write the intent to buy, in one transaction.

    Returns None if it is not due any more: another worker has claimed it, or it has ended.
    """

    def decide(job: Job, _: Attempt | None) -> Update:
        now = rt.now()
        if job.status is Status.PENDING and job.run_at > now + STEP:
            raise StaleJob(f"job {job.id} is not due")
        if rt.pauses.is_paused(job.provider, job.model, now=now):
            raise StaleJob(f"job {job.id} has to wait for {job.provider}")
        change = claim(job, rt.lease.worker_id, AttemptId(uuid4()), now=now)
        return Update(change=change, intent=_attempt(rt, change.job))

    await _ask_times(rt)
    try:
        failpoints.hit("start.intend")
        update = await rt.apply_until_stored(job_id, decide)
    except (IllegalTransition, StaleJob):
        return None
    assert update.change is not None
    assert update.intent is not None
    return update.change.job, update.intent


async def _ask_times(rt: Runtime) -> None:
    """See to it that the time at each provider is known, to be written with the intent.

    One that does not answer at once holds up nobody: its time is then not known.
    """
    for provider in rt.providers.values():
        if isinstance(provider, SupportsServerTime):
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_SECONDS):
                    await provider.ask_time()


async def purchase(rt: Runtime, job: Job, attempt: Attempt) -> None:
    """Spend money once for a written intent, and record what came of it."""
    try:
        failpoints.hit("start.intended")
        await _spend(rt, job, attempt)
    except asyncio.CancelledError:  # this process stops, and cannot wait for the answer
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await record_unknown(rt, attempt, OutcomeUnknown("the worker has stopped"))
        raise
    except Exception:
        await record_unknown(rt, attempt, OutcomeUnknown("starting failed; the log says why"))
        raise


async def _spend(rt: Runtime, job: Job, attempt: Attempt) -> None:
    try:
        rt.lease.check()  # a worker that may be taken for dead does not buy
        _check_age(rt, attempt)
        prediction = await buy(rt, job, attempt)
    except OutcomeUnknown as error:
        await throttle.record_failure(rt, job, error)
        await record_unknown(rt, attempt, error)
    except ProviderUnavailable as error:
        paused = await throttle.record_failure(rt, job, error)
        floor = None if paused else error.retry_after  # the account waits, not the job
        await record_not_bought(rt, attempt, error, floor=floor)
    except WorkerSuspended as error:
        await record_not_bought(rt, attempt, error)
    except ProviderRejected as error:
        await throttle.record_failure(rt, job, error)
        await record_refused(rt, attempt, error)
    else:
        await bind(rt, attempt, prediction)
        await throttle.record_success(rt, job)


def _check_age(rt: Runtime, attempt: Attempt) -> None:
    """Make sure that the intent was written just now.

    Searches for a lost prediction look around that time. The write may have taken long, as while
    the database was unavailable after the commit.

    Raises:
        WorkerSuspended: The intent is too old; the job needs a new one.
    """
    if abs(rt.now() - attempt.submitted_at) > INTENT_LASTS:
        raise WorkerSuspended("storing the intent took too long; the job is started again")


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
        provider_time=time_at(rt.providers.get(job.provider)),
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
