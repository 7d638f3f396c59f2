"""Throttle the starts of predictions: rate limits, paused accounts, and a circuit breaker per model.

Workers record the outcome of each start as provider health. Only the coordinator decides by it
which jobs are dispatched, so no counter is shared between processes.
"""

import math
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.errors import HostError, OutcomeUnknown, ProviderError, ProviderUnavailable
from fleek.domain.job import Job, ModelName
from fleek.engine.accounts import accounts_of, summarize_pauses
from fleek.engine.provider_limits import (
    TRIAL_SECONDS,
    Clock,
    Key,
    TokenBucket,
    TokenBuckets,
)
from fleek.engine.runtime import Runtime
from fleek.providers.base import OPERATOR_ACTION_CODES, RATE_LIMITED, UNREACHABLE, budget_of
from fleek.store import attempts, provider_health, queue_pauses
from fleek.store.database import Reads
from fleek.store.provider_health import ALL_MODELS, ProviderHealth
from fleek.store.queue import Due
from fleek.store.queue_pauses import EVERY

ACCOUNT_CODES: Final = frozenset({RATE_LIMITED, *OPERATOR_ACTION_CODES})
"""Codes that pause the whole account."""
CONNECTIVITY_CODES: Final = frozenset({ProviderUnavailable.code, UNREACHABLE, OutcomeUnknown.code})
"""Codes that count for a model's circuit breaker; other errors say nothing about health."""

DEFAULT_RETRY_AFTER: Final = timedelta(seconds=10)  # for a 429 without Retry-After
OPERATOR_PAUSE: Final = timedelta(minutes=5)  # until the operator's action is tried, without one
SAME_PAUSE: Final = timedelta(seconds=1)  # a pause that ends so little later is not written again
OPENS_AFTER: Final = 5  # failures in a row
SHORTEST_PAUSE: Final = timedelta(seconds=30)  # of an open circuit; doubled with each failure
LONGEST_PAUSE: Final = timedelta(minutes=10)

log = structlog.get_logger(__name__)


def circuit_pause(failures: int) -> timedelta | None:
    """Return how long the circuit stays open after so many failures in a row; None: it is closed."""
    if failures < OPENS_AFTER:
        return None
    return min(SHORTEST_PAUSE * (1 << min(failures - OPENS_AFTER, 10)), LONGEST_PAUSE)


async def refresh_pauses(rt: Runtime, reads: Reads | None = None) -> None:
    """Read the provider health that other processes have recorded, and operators' pauses."""
    db = reads or rt.db
    impaired = await provider_health.impaired(db, now=rt.now())
    rt.pauses.replace_all(impaired, await queue_pauses.read(db))
    summarize_pauses(rt)


async def record_success(rt: Runtime, job: Job, account: str | None = None) -> None:
    """Record that a prediction was started; writes only if failures were known.

    `account`: the key of the account that has started it; None: the provider has one.
    """
    keys = sorted({job.provider, account or job.provider})
    known = [key for key in keys if rt.pauses.clear(key, job.model, now=rt.now())]
    if not known:
        return
    try:
        failpoints.hit("throttle.started")
        cleared = [
            await provider_health.clear(rt.db, key, job.model, now=rt.now()) for key in known
        ]
    except HostError as error:
        log.warning("provider_health_not_saved", provider=job.provider, reason=str(error))
        return
    summarize_pauses(rt)
    if any(cleared):
        log.info("provider_resumed", provider=job.provider, model=job.model)
        rt.wakeups.notify("admit")


async def record_failure(
    rt: Runtime, job: Job, error: ProviderError, account: str | None = None
) -> bool:
    """Record that a start failed, if the error says something about the provider's health.

    `account`: the key of the account that was to start it; None: the provider has one.
    Returns whether the whole account is paused, so that the job may keep its turn. If the record
    cannot be written, the next failure is recorded instead.
    """
    rt.metrics.start_failures.labels(job.provider, error.code).inc()
    try:
        failpoints.hit("throttle.failed")
        health = await _record(rt, job, error, account or job.provider)
    except HostError as failure:
        log.warning("provider_health_not_saved", provider=job.provider, reason=str(failure))
        return False
    if health is not None:
        rt.pauses.add(health)
        summarize_pauses(rt)
        _log(health)
    return error.code in ACCOUNT_CODES


async def _record(
    rt: Runtime, job: Job, error: ProviderError, account: str
) -> ProviderHealth | None:
    now = rt.now()
    if error.code in ACCOUNT_CODES:
        by_operator = error.code in OPERATOR_ACTION_CODES
        retry_after = error.retry_after if isinstance(error, ProviderUnavailable) else None
        until = now + (retry_after or (OPERATOR_PAUSE if by_operator else DEFAULT_RETRY_AFTER))
        if _paused_until(rt, account, ALL_MODELS, now=now) > until - SAME_PAUSE:
            return None
        return await provider_health.pause(
            rt.db, account, until=until, reason=error.code, trial=by_operator, now=now
        )
    if error.code not in CONNECTIVITY_CODES:
        return None
    if _paused_until(rt, job.provider, job.model, now=now) > now:
        return None
    return await provider_health.fail(
        rt.db, job.provider, job.model, reason=error.code, pauses=circuit_pause, now=now
    )


def _paused_until(rt: Runtime, provider: str, model: str, *, now: datetime) -> datetime:
    """Return the end of the known pause of a model or an account; before `now` if there is none."""
    known = (health for health in rt.pauses.for_model(provider, model) if health.model == model)
    ends = (health.paused_until for health in known)
    return next((end for end in ends if end is not None and end > now), now - SAME_PAUSE)


def _log(health: ProviderHealth) -> None:
    """Log the begin of a pause at the level that it deserves."""
    fields = {"provider": health.provider, "reason": health.reason}
    if health.paused_until is None:
        log.info("start_failed", model=health.model, failures=health.failures, **fields)
        return
    fields["until"] = health.paused_until.isoformat()
    if health.model != ALL_MODELS:
        log.warning("circuit_opened", model=health.model, failures=health.failures, **fields)
    elif health.reason in OPERATOR_ACTION_CODES and health.failures == 1:
        advice = f"{OPERATOR_ACTION_CODES[health.reason]}; jobs wait"
        log.error("account_paused", advice=advice, **fields)
    else:
        log.info("provider_paused", **fields)


def _concurrency(rt: Runtime, name: str) -> int | None:
    """Return how many predictions all accounts of a provider may run; None: any number."""
    limits = [budget_of(account.provider).concurrency for account in accounts_of(rt, name)]
    return None if None in limits else sum(limit for limit in limits if limit is not None)


class RateLimiter:
    """Which jobs may be started, during one leadership.

    After a pause caused by failures, one start is the trial: others wait for its outcome.
    """

    def __init__(self, rt: Runtime, *, clock: Clock = time.monotonic) -> None:
        self._rt = rt
        self._clock = clock
        self._creates = {
            name: TokenBuckets(
                {
                    account.key: TokenBucket(
                        budget_of(account.provider).creates_per_minute, clock=clock
                    )
                    for account in accounts_of(rt, name)
                }
            )
            for name in rt.providers
        }
        self._trials: dict[Key, tuple[float, datetime]] = {}  # start; `updated_at` of the failure
        self._free: dict[
            str, int
        ] = {}  # further predictions, by provider with a concurrency limit
        self._out_of_tokens: set[str] = set()  # providers for which a job was refused a token
        self.refused = False  # whether a job was refused since `refresh`
        self.providers: list[str] = []  # not paused
        self.without: set[tuple[str, ModelName]] = set()  # paused models

    async def refresh(self, db: Reads) -> None:
        """Read which accounts and models are paused now."""
        rt = self._rt
        await refresh_pauses(rt, db)
        now, impaired = rt.now(), rt.pauses.all()
        closed = [
            health for health in impaired if health.paused(now) or self._is_tried(health, now)
        ]
        accounts = {health.provider for health in closed if health.model == ALL_MODELS}
        for name, bucket in self._creates.items():
            bucket.drain(accounts)
            if not bucket.unlimited:
                rt.metrics.budget.labels(name, "creates").set(bucket.available())
        paused = accounts | {name for name in self._creates if rt.pauses.is_held(name, EVERY)}
        self.providers = [name for name in self._creates if name not in paused]
        known = {(health.provider, health.model) for health in impaired}
        self._trials = {key: trial for key, trial in self._trials.items() if key in known}
        self.without = {
            (health.provider, ModelName(health.model)) for health in closed if health.model
        } | set(rt.pauses.held_models(self.providers))
        self._out_of_tokens.clear()
        self.refused = False

    async def count_free(self, db: Reads, dispatched: Iterable[Due]) -> None:
        """Count how many more predictions each provider may run; call it after reading due jobs.

        `dispatched`: jobs that no worker has claimed yet. A job that is claimed in between counts
        twice for a moment, but is never missed.
        """
        unclaimed = list(dispatched)
        for name in self.providers:
            most = _concurrency(self._rt, name)
            if most is not None:
                starting = sum(job.provider == name for job in unclaimed)
                self._free[name] = most - starting - await attempts.in_flight(db, name)

    def allows(self, job: Due) -> bool:
        """Whether this job may be started; if so, its token and its place are taken."""
        allowed = self._allows(job)
        self.refused = self.refused or not allowed
        return allowed

    def _allows(self, job: Due) -> bool:
        now = self._rt.now()
        impaired = self._rt.pauses.for_model(job.provider, job.model)
        if any(self._is_tried(health, now) for health in impaired):
            return False
        if self._free.get(job.provider, 1) < 1:
            self._rt.pauses.exhaust(job.provider)
            return False
        if not self._creates[job.provider].take():
            self._rt.pauses.exhaust(job.provider)
            self._out_of_tokens.add(job.provider)
            return False
        if job.provider in self._free:
            self._free[job.provider] -= 1
        for health in impaired:
            if health.on_trial(now):
                self._trials[health.provider, health.model] = self._clock(), health.updated_at
        return True

    def wait(self) -> timedelta | None:
        """Return the time until a refused job gets a token; None: no job waits for one."""
        return min((self._creates[name].wait() for name in self._out_of_tokens), default=None)

    def _is_tried(self, health: ProviderHealth, now: datetime) -> bool:
        """Whether a trial is under way: a start whose outcome is not known yet."""
        start, updated_at = self._trials.get((health.provider, health.model), (-math.inf, None))
        return (
            health.on_trial(now)
            and updated_at == health.updated_at
            and self._clock() - start < TRIAL_SECONDS
        )
