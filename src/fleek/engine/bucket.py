"""A token bucket: how many calls a budget still allows."""

import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

BURST_SECONDS: Final = 1.0  # worth of tokens that are kept

Clock = Callable[[], float]
"""Monotonic seconds."""


class TokenBucket:
    """Tokens that come with time: in no minute more than `per_minute`.

    Args:
        per_minute: None: there are always enough.
        clock: Monotonic seconds.
        burst_seconds: How many seconds' worth of tokens are kept.
        full: Whether it begins full, or empty.
    """

    def __init__(
        self,
        per_minute: float | None,
        *,
        clock: Clock = time.monotonic,
        burst_seconds: float = BURST_SECONDS,
        full: bool = False,
    ) -> None:
        # What a burst may add to a minute is taken off its rate.
        self._rate = math.inf if per_minute is None else per_minute / (60 + burst_seconds)
        self._most = max(1.0, self._rate * burst_seconds)
        self._clock = clock
        self._seen = clock()
        self._level = self._most if full else 0.0

    @property
    def endless(self) -> bool:
        """Whether nothing is limited."""
        return math.isinf(self._rate)

    @property
    def ample(self) -> bool:
        """Whether more than half of what it can hold is there."""
        return self.left() > self._most / 2 or self.endless

    def left(self) -> float:
        """Return how many tokens there are; below zero: owed."""
        if self.endless:
            return math.inf
        now = self._clock()
        self._level = min(self._most, self._level + (now - self._seen) * self._rate)
        self._seen = now
        return self._level

    def take(self) -> bool:
        """Take a token, if there is one."""
        if self.left() < 1:
            return False
        self.spend(1)
        return True

    def spend(self, tokens: float) -> None:
        """Take tokens, whether they are there or not."""
        if not self.endless:
            self._level = self.left() - tokens

    def drain(self, *, seconds: float = 0) -> None:
        """Take all there are, and those of the next seconds."""
        if not self.endless:
            self._level = min(self.left(), -seconds * self._rate)

    def wait(self) -> timedelta:
        """Return how long it takes until there is a token."""
        missing = max(1 - self.left(), 0.0)
        return timedelta(seconds=missing / self._rate)
