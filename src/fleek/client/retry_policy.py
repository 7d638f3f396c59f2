"""When to ask again: after a failure, and while a job goes on."""

import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fleek.client.errors import (
    AnswerLost,
    ClientError,
    JobFailed,
    ServerBusy,
    ServerUnreachable,
    WaitTimeout,
)
from fleek.domain.errors import FleekError, TooMany
from fleek.domain.job import TERMINAL, Status
from fleek.schemas import JobRead

LONGEST_PAUSE: Final = 10.0  # seconds; a server that asks for more gets no second try


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a client is. Seconds, except `tries`."""

    tries: int = 3  # how often a harmless request is sent before its failure is raised
    pause: float = 0.15  # the wait before the second try, doubled for the third; jittered
    first: float = 0.2  # between the first two looks at a job
    longest: float = 2.0  # between any two looks; reached by steps of one half
    patience: float = 30.0  # how long `wait` bears a server that cannot be reached

    def pause_after(self, error: FleekError, *, tried: int, idempotent: bool) -> float | None:
        """Return how long to wait before asking again, in seconds; None: do not.

        `idempotent` is whether doing it twice is the same as doing it once. A request of which
        nothing was sent, or that was refused for its rate, may always be sent again.
        """
        again = _undone(error) or (
            idempotent and isinstance(error, ServerUnreachable | ServerBusy)
        )
        if not again or tried >= self.tries:
            return None
        pause = self.pause * 2.0 ** (tried - 1)
        asked: timedelta | None = getattr(error, "retry_after", None)
        if asked is not None:
            pause = max(pause, asked.total_seconds())
        if pause > LONGEST_PAUSE:
            return None
        return pause * random.uniform(1, 1.5)  # noqa: S311 - jitter, not a secret


def _undone(error: FleekError) -> bool:
    if isinstance(error, TooMany):
        return True
    return isinstance(error, ServerUnreachable) and not isinstance(error, AnswerLost)


class WaitDeadline:
    """Decides between two looks at jobs: how long to sleep, and when to give up."""

    def __init__(self, pace: RetryPolicy, timeout: float | None) -> None:
        self._pace = pace
        self._interval = pace.first
        self._timeout = timeout
        self._began = self._heard = time.monotonic()

    def heard(self) -> None:
        """Note that the server has answered."""
        self._heard = time.monotonic()

    def bear(self, error: ClientError) -> None:
        """Bear that the server could not be asked, for a while.

        Raises:
            ClientError: The same; it has been so for too long, or will not pass.
        """
        silent = time.monotonic() - self._heard
        if not error.retryable or silent > self._pace.patience:
            raise error

    def pause(self, job: JobRead | None) -> float:
        """Return how long to sleep before the next look, in seconds.

        Raises:
            WaitTimeout: The time is over; `job` was seen last.
        """
        pause = self._interval
        self._interval = min(self._interval * 1.5, self._pace.longest)
        if self._timeout is None:
            return pause
        left = self._timeout - (time.monotonic() - self._began)
        if left <= 0:
            raise WaitTimeout(f"not done after {self._timeout:g} s; it goes on", job=job)
        return min(pause, left)


def completed(job: JobRead) -> JobRead | None:
    """Return the job if it has ended well, None while it goes on.

    Raises:
        JobFailed: It has ended otherwise.
    """
    if job.status not in TERMINAL:
        return None
    if job.status is not Status.COMPLETED:
        raise JobFailed(job)
    return job
