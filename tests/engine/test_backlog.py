"""The retry schedule: fair, even if some attempts in the backlog always fail."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from fakes import Clock
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import DatabaseUnavailable
from fleek.domain.job import AttemptId
from fleek.engine import backlog
from fleek.engine.backlog import SHORTEST, Cursor, RetrySchedule
from samples import a_job, an_attempt

PAGE = 10


class Rows:
    """The open attempts of a database, with the number of pages that were read."""

    def __init__(self, number: int) -> None:
        attempt = an_attempt(a_job())
        self.attempts = [
            replace(attempt, id=AttemptId(UUID(int=position)), number=position)
            for position in range(1, number + 1)
        ]
        self.pages = 0
        self.broken = False

    async def page(self, after: Cursor | None) -> Sequence[Attempt]:
        """Read the page behind a cursor."""
        self.pages += 1
        if self.broken:
            raise DatabaseUnavailable("no answer")
        behind = [
            attempt
            for attempt in self.attempts
            if after is None or (attempt.submitted_at, attempt.id) > after
        ]
        return behind[: backlog.PAGE]

    async def one(self, attempt_id: AttemptId) -> Attempt | None:
        """Read one attempt."""
        return next((attempt for attempt in self.attempts if attempt.id == attempt_id), None)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "PAGE", PAGE)
    monkeypatch.setattr(backlog, "ROWS_PER_SECOND", PAGE)


def a_schedule(rows: Rows, clock: Clock) -> RetrySchedule:
    """Return a schedule by the clock of the test."""
    return RetrySchedule(rows.page, rows.one, clock=clock.steady)


async def test_a_postponed_try_is_counted_once(clock: Clock) -> None:
    """Otherwise the pauses of searches would grow twice as fast as those of cancellations."""
    rows = Rows(1)
    schedule = a_schedule(rows, clock)
    (attempt,) = await schedule.due(limit=PAGE)

    schedule.record_try(attempt.id)
    schedule.postpone(attempt.id, pause=timedelta(0))
    schedule.record_try(attempt.id)

    wait = schedule.wait()
    assert wait is not None
    assert wait.total_seconds() <= SHORTEST * 2 * 1.2


async def test_a_long_backlog_is_not_read_in_each_turn(clock: Clock) -> None:
    """Every new attempt wakes the loop, and reading all of them each time is quadratic."""
    rows = Rows(5 * PAGE)
    schedule = a_schedule(rows, clock)
    for attempt in await schedule.due(limit=PAGE):
        schedule.record_try(attempt.id)
    read = rows.pages

    turns = [await schedule.due(limit=PAGE) for _ in range(3)]

    assert rows.pages == read
    assert all(len(attempts) == PAGE for attempts in turns)


async def test_a_long_backlog_is_read_again_after_a_while(clock: Clock) -> None:
    """New attempts have to be found."""
    rows = Rows(5 * PAGE)
    schedule = a_schedule(rows, clock)
    await schedule.due(limit=PAGE)
    new = replace(rows.attempts[-1], id=AttemptId(UUID(int=1000)))
    rows.attempts.append(new)
    clock.tick(seconds=5)

    due = await schedule.due(limit=10 * PAGE)

    assert new in due


async def test_attempts_changed_since_the_read_are_not_due(clock: Clock) -> None:
    """An attempt may have got its verdict in the meantime."""
    rows = Rows(5 * PAGE)
    schedule = a_schedule(rows, clock)
    await schedule.due(limit=PAGE)
    closed = rows.attempts[3]
    rows.attempts[3] = replace(closed, verdict=Verdict.NOT_CREATED)

    due = await schedule.due(limit=5 * PAGE)

    assert len(due) == 5 * PAGE - 1
    assert closed.id not in {attempt.id for attempt in due}


async def test_a_failed_read_keeps_the_schedule(clock: Clock) -> None:
    """Otherwise all attempts would be due at once after a short outage of the database."""
    rows = Rows(1)
    schedule = a_schedule(rows, clock)
    (attempt,) = await schedule.due(limit=PAGE)
    schedule.record_try(attempt.id)
    rows.broken = True
    with pytest.raises(DatabaseUnavailable):
        await schedule.due(limit=PAGE)
    rows.broken = False

    assert await schedule.due(limit=PAGE) == []
