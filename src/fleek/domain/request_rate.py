"""The rate of requests: a token bucket that is one time, as in the generic cell rate algorithm.

The bucket is described by when it will be full again; each token that is taken moves that time ahead by
the interval between two requests.

Source: ITU-T I.371, annex A; https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
"""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from fleek.domain.values import dataclass

BURSTS_PER_MINUTE: Final = 6  # a bucket holds ten seconds' worth
LEASES_PER_MINUTE: Final = 30  # a process takes two seconds' worth at a time
MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class RequestRate:
    """How many requests per minute one caller may send; see `request_rate`."""

    per_minute: int
    interval: timedelta  # in which the bucket gains one token
    burst: int  # tokens that the bucket holds: so many requests may come at once
    lease: int  # tokens that a process takes in advance, for requests to come

    def free(self, full_at: datetime, now: datetime) -> int:
        """Return how many tokens the bucket has."""
        missing = self._full_at(full_at, now) - now
        return max((self.burst * self.interval - missing) // self.interval, 0)

    def spend(self, tokens: int, full_at: datetime, now: datetime) -> datetime:
        """Return when the bucket is full again after so many tokens have been taken."""
        return self._full_at(full_at, now) + tokens * self.interval

    def wait(self, full_at: datetime, now: datetime) -> timedelta:
        """Return the time until the bucket has a token."""
        missing = self._full_at(full_at, now) - now
        return max(missing - (self.burst - 1) * self.interval, timedelta(0))

    def _full_at(self, full_at: datetime, now: datetime) -> datetime:
        """Return the time within what is possible: a clock may have been set back meanwhile."""
        return min(max(full_at, now), now + self.burst * self.interval)


@lru_cache
def request_rate(per_minute: int) -> RequestRate:
    """Return a rate of at least one request per minute; made once, as each request asks for it."""
    return RequestRate(
        per_minute,
        interval=MINUTE / per_minute,
        burst=max(per_minute // BURSTS_PER_MINUTE, 1),
        lease=max(per_minute // LEASES_PER_MINUTE, 1),
    )
