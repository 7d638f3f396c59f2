"""How fast to buy: budgets, pauses of accounts, and a circuit breaker for each model.

Workers note what they see; the coordinator alone decides by it, so no counter is shared.
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
from fleek.engine.provider_limits import Clock, Key, TokenBucket
from fleek.engine.runtime import Runtime
from fleek.providers.base import OPERATOR_ACTION_CODES, RATE_LIMITED, UNREACHABLE, budget_of
from fleek.store import attempts, provider_health
from fleek.store.provider_health import ALL_MODELS, ProviderHealth
from fleek.store.queue import Due

ACCOUNT_CODES: Final = frozenset({RATE_LIMITED, *OPERATOR_ACTION_CODES})
CONNECTIVITY_CODES: Final = frozenset({ProviderUnavailable.code, UNREACHABLE, OutcomeUnknown.code})
"""Codes that tell of the provider's or the network's health; any other says nothing of it."""

DEFAULT_RETRY_AFTER: Final = timedelta(
    seconds=10
)  # too many requests, and nobody says how long to wait
SAME_PAUSE: Final = timedelta(
    seconds=1
)  # a pause that is no longer than this beyond another is no news
OPERATOR_PAUSE: Final = timedelta(
    minutes=5
)  # somebody has to act first, and the provider says no time
OPENS_AFTER: Final = 5  # failures in a row
SHORTEST_PAUSE: Final = timedelta(seconds=30)  # of a model that fails; doubled each time
LONGEST_PAUSE: Final = timedelta(minutes=10)
TRIAL_SECONDS: Final = 30.0  # before another trial, if nothing is heard of one

log = structlog.get_logger(__name__)


def circuit_pause(failures: int) -> timedelta | None:
    """Return for how long a model rests after so many failures in a row; None: not at all."""
    if failures < OPENS_AFTER:
        return None
    return min(SHORTEST_PAUSE * (1 << min(failures - OPENS_AFTER, 10)), LONGEST_PAUSE)


async def refresh_pauses(rt: Runtime) -> None:
    """Learn what others have seen."""
    rt.pauses.replace_all(await provider_health.impaired(rt.db, now=rt.now()))


async def record_success(rt: Runtime, job: Job) -> None:
    """Note that a purchase succeeded: nothing is written unless failures were known."""
    if not rt.pauses.clear(job.provider, job.model, now=rt.now()):
        return
    try:
        failpoints.hit("pace.sold")
        cleared = await provider_health.clear(rt.db, job.provider, job.model, now=rt.now())
    except HostError as error:
        log.warning("provider_health_not_saved", provider=job.provider, reason=str(error))
        return
    if cleared:
        log.info("provider_resumed", provider=job.provider, model=job.model)
        rt.wakeups.notify("admit")


async def record_failure(rt: Runtime, job: Job, error: ProviderError) -> bool:
    """Note that a purchase failed, if that says something new about the provider.

    Returns whether its whole account waits now, so that the job may keep its turn. What cannot
    be written is lost: the next failure says it again.
    """
    rt.metrics.purchase_failures.labels(job.provider, error.code).inc()
    try:
        failpoints.hit("pace.failed")
        account = await _note(rt, job, error)
    except HostError as failure:
        log.warning("provider_health_not_saved", provider=job.provider, reason=str(failure))
        return False
    if account is not None:
        rt.pauses.add(account)
        _tell(account)
    return error.code in ACCOUNT_CODES


async def _note(rt: Runtime, job: Job, error: ProviderError) -> ProviderHealth | None:
    now = rt.now()
    if error.code in ACCOUNT_CODES:
        parked = error.code in OPERATOR_ACTION_CODES
        told = error.retry_after if isinstance(error, ProviderUnavailable) else None
        until = now + (told or (OPERATOR_PAUSE if parked else DEFAULT_RETRY_AFTER))
        if _pause(rt, job.provider, ALL_MODELS, now=now) > until - SAME_PAUSE:
            return None
        return await provider_health.pause(
            rt.db, job.provider, until=until, reason=error.code, trial=parked, now=now
        )
    if error.code not in CONNECTIVITY_CODES or _pause(rt, job.provider, job.model, now=now) > now:
        return None
    return await provider_health.fail(
        rt.db, job.provider, job.model, reason=error.code, pauses=circuit_pause, now=now
    )


def _pause(rt: Runtime, provider: str, model: str, *, now: datetime) -> datetime:
    """Return how long a pause lasts that is known; `now` or earlier if there is none."""
    ends = (one.paused_until for one in rt.pauses.for_model(provider, model) if one.model == model)
    return next((end for end in ends if end is not None and end > now), now - SAME_PAUSE)


def _tell(account: ProviderHealth) -> None:
    """Say it once when it begins, as loud as it matters."""
    told = {"provider": account.provider, "reason": account.reason}
    if account.paused_until is None:
        log.info("purchase_failed", model=account.model, failures=account.failures, **told)
        return
    told["until"] = account.paused_until.isoformat()
    if account.model != ALL_MODELS:
        log.warning("circuit_opened", model=account.model, failures=account.failures, **told)
    elif account.reason in OPERATOR_ACTION_CODES and account.failures == 1:
        log.error(
            "account_paused", advice=f"{OPERATOR_ACTION_CODES[account.reason]}; jobs wait", **told
        )
    else:
        log.info("provider_paused", **told)


class RateLimiter:
    """What may be started, as long as this process coordinates."""

    def __init__(self, rt: Runtime, *, clock: Clock = time.monotonic) -> None:
        self._rt = rt
        self._clock = clock
        self._creates = {
            name: TokenBucket(budget_of(provider).creates_per_minute, clock=clock)
            for name, provider in rt.providers.items()
        }
        self._trials: dict[Key, tuple[float, datetime]] = {}  # begun; the failure it follows
        self._room: dict[str, int] = {}  # of providers that run so many at once
        self._dry: set[str] = set()  # providers that a job was refused for, for want of a token
        self.refused = False  # whether any job was, since the last look
        self.providers: list[str] = []  # that sell now
        self.without: set[tuple[str, ModelName]] = set()  # models that they do not sell now

    async def look(self) -> None:
        """Find out what is sold now."""
        rt = self._rt
        await refresh_pauses(rt)
        now = rt.now()
        shut = [one for one in rt.pauses.all() if one.paused(now) or self._tried(one, now)]
        closed = {one.provider for one in shut if one.model == ALL_MODELS}
        for name, bucket in self._creates.items():
            if name in closed:
                bucket.drain()
            if not bucket.unlimited:
                rt.metrics.budget.labels(name, "creates").set(bucket.available())
        self.providers = [name for name in self._creates if name not in closed]
        known = {(one.provider, one.model) for one in rt.pauses.all()}
        self._trials = {key: trial for key, trial in self._trials.items() if key in known}
        self.without = {(one.provider, ModelName(one.model)) for one in shut if one.model}
        self._dry.clear()
        self.refused = False

    async def count(self, dispatched: Iterable[Due]) -> None:
        """Find out how many more each provider takes; to be called after reading what is due.

        `dispatched`: jobs that no worker has claimed yet. One that is claimed meanwhile counts twice
        for a moment, and never not at all.
        """
        waiting = list(dispatched)
        for name in self.providers:
            most = budget_of(self._rt.providers[name]).concurrency
            if most is not None:
                taken = sum(one.provider == name for one in waiting)
                self._room[name] = most - taken - await attempts.in_flight(self._rt.db, name)

    def allows(self, job: Due) -> bool:
        """Whether this job may be started; then its token and its place are taken."""
        allowed = self._allows(job)
        self.refused = self.refused or not allowed
        return allowed

    def _allows(self, job: Due) -> bool:
        now = self._rt.now()
        concerned = self._rt.pauses.for_model(job.provider, job.model)
        if any(self._tried(one, now) for one in concerned) or self._room.get(job.provider, 1) < 1:
            return False
        if not self._creates[job.provider].take():
            self._dry.add(job.provider)
            return False
        if job.provider in self._room:
            self._room[job.provider] -= 1
        for one in concerned:
            if one.on_trial(now):
                self._trials[one.provider, one.model] = (self._clock(), one.updated_at)
        return True

    def wait(self) -> timedelta | None:
        """Return how long a job waits for a token; None if none does."""
        return min((self._creates[name].wait() for name in self._dry), default=None)

    def _tried(self, account: ProviderHealth, now: datetime) -> bool:
        """Whether its trial goes on: one purchase, of which nothing has been heard yet."""
        begun, after = self._trials.get((account.provider, account.model), (-math.inf, None))
        return (
            account.on_trial(now)
            and after == account.updated_at
            and self._clock() - begun < TRIAL_SECONDS
        )
