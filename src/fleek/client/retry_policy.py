"""Retries after errors, and the intervals of polling."""

import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fleek.client.errors import (
    ClientError,
    JobFailed,
    ResponseLost,
    ServerBusy,
    ServerUnreachable,
    WaitTimeout,
)
from fleek.client.models import JobRead
from fleek.domain.errors import FleekError, TooMany
from fleek.domain.job import TERMINAL, Status

MAX_RETRY_DELAY: Final = 10.0  # seconds; a longer Retry-After is not waited for


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long a client retries. Seconds, except `attempts`."""

    attempts: int = 3  # of an idempotent request before its error is raised
    backoff_seconds: float = 0.15  # before the second attempt; doubled each time, with jitter
    poll_seconds: float = 0.2  # before a job is polled for the second time
    max_poll_seconds: float = 2.0  # the longest polling interval; it grows by half each time
    total_seconds: float | None = None  # after them an error is raised at once; None: unlimited
    outage_seconds: float = 30.0  # how long `wait` tolerates an unreachable server

    def retry_delay(
        self, error: FleekError, *, tried: int, idempotent: bool, seconds: float = 0.0
    ) -> float | None:
        """Return the delay before the next attempt, in seconds; None: no further attempt.

        A request of which nothing was sent, or that was rate limited, can always be retried.
        `seconds` have passed since the first attempt began.
        """
        again = _had_no_effect(error) or (
            idempotent and isinstance(error, ServerUnreachable | ServerBusy)
        )
        if not again or tried >= self.attempts:
            return None
        delay = self.backoff_seconds * 2.0 ** (tried - 1)
        asked: timedelta | None = getattr(error, "retry_after", None)
        if asked is not None:
            delay = max(delay, asked.total_seconds())
        late = self.total_seconds is not None and seconds + delay > self.total_seconds
        if delay > MAX_RETRY_DELAY or late:
            return None
        return delay * random.uniform(1, 1.5)  # noqa: S311 - jitter, not a secret


def _had_no_effect(error: FleekError) -> bool:
    if isinstance(error, TooMany):
        return True
    return isinstance(error, ServerUnreachable) and not isinstance(error, ResponseLost)


class WaitDeadline:
    """Decides between polls: how long to sleep, and when to give up."""

    def __init__(self, retry_policy: RetryPolicy, timeout: float | None) -> None:
        self._retry_policy = retry_policy
        self._interval = retry_policy.poll_seconds
        self._timeout = timeout
        self._began = self._answered_at = time.monotonic()

    def answered(self) -> None:
        """Record that the server answered."""
        self._answered_at = time.monotonic()

    def tolerate(self, error: ClientError) -> None:
        """Tolerate an unreachable server for `outage_seconds`.

        Raises:
            ClientError: The error itself: it is permanent, or the outage took too long.
        """
        outage = time.monotonic() - self._answered_at
        if not error.retryable or outage > self._retry_policy.outage_seconds:
            raise error

    def pause(self, job: JobRead | None) -> float:
        """Return how long to sleep before the next poll, in seconds.

        Raises:
            WaitTimeout: The timeout has passed; its `job` is the one given here.
        """
        interval = self._interval
        self._interval = min(self._interval * 1.5, self._retry_policy.max_poll_seconds)
        if self._timeout is None:
            return interval
        left = self._timeout - (time.monotonic() - self._began)
        if left <= 0:
            raise WaitTimeout(f"not finished after {self._timeout:g} s; the job goes on", job=job)
        return min(interval, left)


def completed(job: JobRead) -> JobRead | None:
    """Return the job if it has completed, None while it goes on.

    Raises:
        JobFailed: It has failed or was cancelled.
    """
    if job.status not in TERMINAL:
        return None
    if job.status is not Status.COMPLETED:
        raise JobFailed(job)
    return job
