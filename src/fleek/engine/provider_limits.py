"""What one process may ask of a provider: call budgets, pauses, cancel slots and time limits.

`fleek.engine.throttle` decides by these which jobs are started.
"""

import asyncio
import math
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Container,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import Final

from fleek.domain.errors import ProviderUnavailable
from fleek.domain.job import ModelName
from fleek.domain.values import dataclass
from fleek.engine.loops import ShieldedTasks
from fleek.providers.base import UNREACHABLE
from fleek.store.provider_health import ALL_MODELS, ProviderHealth
from fleek.store.queue_pauses import QueuePause

BURST_SECONDS: Final = 1.0  # worth of tokens that a bucket holds
CONCURRENT_CANCELS: Final = 32  # requests to one provider
MOST_CANCELS: Final = 1000  # first requests that wait in this process
CANCEL_SHARE: Final = 0.25  # of a provider's call budget; `watch` has half of it
CANCEL_BURST_SECONDS: Final = 60.0  # cancels come in bursts

EXHAUSTED_SECONDS: Final = 5.0  # for which a budget that was used up is remembered

TRIAL_SECONDS: Final = 30.0  # before another trial, if the outcome of one is not known

Clock = Callable[[], float]
"""Monotonic seconds."""

Key = tuple[str, str]
"""A provider, and one of its models or `ALL_MODELS`."""


class TokenBucket:
    """A rate limiter: at most `per_minute` tokens within any minute.

    Args:
        per_minute: None: unlimited.
        clock: Monotonic seconds.
        burst_seconds: How many seconds' worth of tokens the bucket holds.
        full: Whether it starts full; else it starts empty.
    """

    def __init__(
        self,
        per_minute: float | None,
        *,
        clock: Clock = time.monotonic,
        burst_seconds: float = BURST_SECONDS,
        full: bool = False,
    ) -> None:
        # The rate is lower by what a burst may add within a minute.
        self._rate = math.inf if per_minute is None else per_minute / (60 + burst_seconds)
        self._size = max(1.0, self._rate * burst_seconds)
        self._clock = clock
        self._filled_at = clock()
        self._level = self._size if full else 0.0

    @property
    def unlimited(self) -> bool:
        """Whether there is no limit."""
        return math.isinf(self._rate)

    @property
    def ample(self) -> bool:
        """Whether the bucket is more than half full."""
        return self.available() > self._size / 2 or self.unlimited

    def available(self) -> float:
        """Return the number of tokens; negative if the bucket was overdrawn."""
        if self.unlimited:
            return math.inf
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return self._level

    def take(self) -> bool:
        """Take a token; False if there is none."""
        if self.available() < 1:
            return False
        self.spend(1)
        return True

    def spend(self, tokens: float) -> None:
        """Take tokens, overdrawing the bucket if necessary."""
        if not self.unlimited:
            self._level = self.available() - tokens

    def drain(self, *, seconds: float = 0) -> None:
        """Empty the bucket, and forgo the tokens of the next seconds."""
        if not self.unlimited:
            self._level = min(self.available(), -seconds * self._rate)

    def wait(self) -> timedelta:
        """Return the time until there is a token."""
        missing = max(1 - self.available(), 0.0)
        return timedelta(seconds=missing / self._rate)


class TokenBuckets:
    """The rate limiters of a provider's accounts, taken from in turn as one.

    Args:
        buckets: By the account's key.
    """

    def __init__(self, buckets: Mapping[str, TokenBucket]) -> None:
        self._buckets = buckets

    @property
    def unlimited(self) -> bool:
        """Whether an account has no limit."""
        return any(bucket.unlimited for bucket in self._buckets.values())

    def available(self) -> float:
        """Return the number of tokens of all accounts; negative if all are overdrawn."""
        levels = [bucket.available() for bucket in self._buckets.values()]
        return sum(level for level in levels if level > 0) or max(levels)

    def take(self) -> bool:
        """Take a token of the account that has most; False if none has any."""
        return max(self._buckets.values(), key=TokenBucket.available).take()

    def wait(self) -> timedelta:
        """Return the time until there is a token."""
        return min(bucket.wait() for bucket in self._buckets.values())

    def drain(self, paused: Container[str]) -> None:
        """Empty the buckets of paused accounts."""
        for key, bucket in self._buckets.items():
            if key in paused:
                bucket.drain()


class AccountTurns:
    """Which account this process has chosen when: they take turns, and trials are single.

    Args:
        steady: Monotonic seconds.
    """

    def __init__(self, steady: Clock = time.monotonic) -> None:
        self._steady = steady
        self._number = 0
        self._chosen: dict[str, int] = {}
        self._trials: dict[str, float] = {}

    def next(self, keys: Sequence[str]) -> str:
        """Return the key that was chosen longest ago, the first one of several."""
        self._number += 1
        key = min(keys, key=lambda each: self._chosen.get(each, 0))
        self._chosen[key] = self._number
        return key

    def begin_trial(self, key: str) -> None:
        """Remember that a trial of an account begins."""
        self._trials[key] = self._steady()

    def is_tried(self, key: str) -> bool:
        """Whether a trial of an account began, and its outcome may not be known yet."""
        return self._steady() - self._trials.get(key, -math.inf) < TRIAL_SECONDS


class PauseCache:
    """This process's copy of what is paused: accounts, failing models, and by operators.

    Refreshed with each heartbeat of a worker and each turn of `admit`, and read for every job. While
    no provider is impaired, a read is a look into an empty dictionary.
    """

    def __init__(self, steady: Clock = time.monotonic) -> None:
        self._steady = steady
        self._impaired: dict[Key, ProviderHealth] = {}
        self._held: Sequence[QueuePause] = ()  # by an operator
        self._exhausted: dict[str, float] = {}  # when the budget of a provider was used up, steady

    def replace_all(
        self, impaired: Iterable[ProviderHealth], held: Sequence[QueuePause] = ()
    ) -> None:
        """Replace the copy: provider health, and what an operator has paused."""
        self._impaired = {(health.provider, health.model): health for health in impaired}
        self._held = held

    def add(self, health: ProviderHealth) -> None:
        """Add or replace one entry."""
        self._impaired[health.provider, health.model] = health

    def summarize(self, provider: str, accounts: Sequence[str]) -> None:
        """Pause a provider if all its accounts are paused, for as long as the first of them is.

        `accounts`: their keys.
        """
        found = [self._impaired.get((key, ALL_MODELS)) for key in accounts]
        paused = [
            (health.paused_until, health)
            for health in found
            if health is not None and health.paused_until is not None
        ]
        self._impaired.pop((provider, ALL_MODELS), None)
        if len(paused) == len(accounts):
            _, first = min(paused, key=lambda each: each[0])
            self._impaired[provider, ALL_MODELS] = replace(first, provider=provider)

    def all(self) -> list[ProviderHealth]:
        """Return all entries."""
        return list(self._impaired.values())

    def for_model(self, provider: str, model: str) -> list[ProviderHealth]:
        """Return the entries that concern a model: its account's and its own."""
        if not self._impaired:
            return []
        found = (self._impaired.get((provider, name)) for name in (ALL_MODELS, model))
        return [health for health in found if health is not None]

    def exhaust(self, provider: str) -> None:
        """Remember that a job had to wait for the budget of a provider."""
        self._exhausted[provider] = self._steady()

    def is_exhausted(self, provider: str) -> bool:
        """Whether a job has had to wait for the budget of a provider lately."""
        used_up = self._exhausted.get(provider)
        return used_up is not None and self._steady() - used_up < EXHAUSTED_SECONDS

    def is_paused(self, provider: str, model: str, *, now: datetime) -> bool:
        """Whether no prediction of this model may be started now."""
        impaired = any(health.paused(now) for health in self.for_model(provider, model))
        return impaired or self.is_held(provider, model)

    def is_held(self, provider: str, model: str) -> bool:
        """Whether an operator has paused this model; with `EVERY`, all models of the provider."""
        return any(pause.covers(provider, model) for pause in self._held)

    def held_models(self, providers: Iterable[str]) -> Iterator[tuple[str, ModelName]]:
        """Yield the single models of these providers that an operator has paused."""
        single = [pause for pause in self._held if pause.model]
        for provider in providers if single else ():
            for pause in single:
                if pause.covers(provider, pause.model):
                    yield provider, ModelName(pause.model)

    def clear(self, provider: str, model: str, *, now: datetime) -> bool:
        """Remove failures as `fleek.store.provider_health.clear` does; False if there were none."""
        cleared = [
            health
            for health in self.for_model(provider, model)
            if health.failures and (health.model != ALL_MODELS or not health.paused(now))
        ]
        for health in cleared:
            del self._impaired[health.provider, health.model]
        return bool(cleared)


@dataclass(slots=True)
class CancelSlots:
    """How many cancels one provider may be sent: at a time, and by its call budget."""

    calls: TokenBucket
    concurrent: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(CONCURRENT_CANCELS)
    )


class CancelRequests:
    """The cancel requests of this process to all providers."""

    def __init__(self) -> None:
        self.tasks = ShieldedTasks()  # run beside their callers
        self._slots: dict[str, CancelSlots] = {}

    @property
    def full(self) -> bool:
        """Whether so many requests wait that the coordinator has to send the next ones."""
        return len(self.tasks) >= MOST_CANCELS

    def slots(self, provider: str, *, calls_per_minute: float | None) -> CancelSlots:
        """Return a provider's slots; `calls_per_minute` is its whole call budget."""
        if provider not in self._slots:
            share = calls_per_minute and calls_per_minute * CANCEL_SHARE
            calls = TokenBucket(share, burst_seconds=CANCEL_BURST_SECONDS, full=True)
            self._slots[provider] = CancelSlots(calls)
        return self._slots[provider]


@asynccontextmanager
async def call_timeout(provider: str, limit: timedelta) -> AsyncIterator[None]:
    """Bound a call of a provider that costs nothing, or that may be repeated.

    A provider that hangs must not block a loop for ever.

    Raises:
        ProviderUnavailable: There was no answer in time; ``code`` is ``provider_unreachable``.
    """
    try:
        async with asyncio.timeout(limit.total_seconds()):
            yield
    except TimeoutError:
        message = f"{provider} did not answer within {limit.total_seconds():g} s"
        raise ProviderUnavailable(message, code=UNREACHABLE) from None
