"""How many jobs have each status: counters that each commit changes, not a scan."""

from collections.abc import Mapping
from datetime import datetime
from random import randrange
from typing import Any, Final

from sqlalchemy import func, select, text

from fleek.domain.job import Status
from fleek.domain.values import dataclass
from fleek.store.database import Database, Transaction
from fleek.store.prepared import Query, Write
from fleek.store.queue import FIRST_DUE, NEXT_PROVIDER, first_run
from fleek.store.tables import CounterRow

SHARDS: Final = 16  # tallies are kept in parts, so that commits do not queue for one row
ADD_COUNTS: Final = Write(
    text(
        "INSERT INTO tallies (lane, status, jobs) VALUES (:lane, :status, :jobs)"
        " ON CONFLICT (lane, status) DO UPDATE SET jobs = tallies.jobs + excluded.jobs"
    )
)
COUNT_ACCEPTED: Final = Query[Any](
    text(
        "INSERT INTO tallies (lane, status, jobs) VALUES (:lane, :status, :jobs)"
        " ON CONFLICT (lane, status) DO UPDATE SET jobs = tallies.jobs + excluded.jobs"
        " RETURNING EXISTS (SELECT 1 FROM endpoints WHERE enabled)"
    )
)


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many jobs there are."""

    by_status: Mapping[Status, int]
    oldest_pending_seconds: float | None  # how long the longest-waiting due job waits

    @property
    def total(self) -> int:
        """All jobs that are kept."""
        return sum(self.by_status.values())

    @property
    def queue_depth(self) -> int:
        """Jobs that wait to be started."""
        return self.by_status[Status.PENDING]

    @property
    def in_flight(self) -> int:
        """Jobs that are being started, waited for or collected."""
        return self.by_status[Status.PROCESSING]


SUMS: Final = Query[Any](
    select(CounterRow.status, func.sum(CounterRow.jobs)).group_by(CounterRow.status)
)


async def count_jobs(db: Database, *, now: datetime) -> JobCounts:
    """Return the number of jobs by status, from counters, not from a scan."""
    async with db.read(short=True) as tx:
        found = {Status(status): int(jobs) for status, jobs in await SUMS.rows(tx)}
        since = await first_run(tx, FIRST_DUE, await _pending_providers(tx), now=now)
    return JobCounts(
        by_status={status: found.get(status, 0) for status in Status},
        oldest_pending_seconds=None if since is None else (now - since).total_seconds(),
    )


async def _pending_providers(tx: Transaction) -> list[str]:
    """Return the providers that jobs wait for: one step in the index for each."""
    found: list[str] = []
    last = ""
    while True:
        name = await NEXT_PROVIDER.scalar(tx, after=last)
        if name is None:
            return found
        found.append(name)
        last = name


async def count_accepted(tx: Transaction, number: int, *, completed: int = 0) -> bool:
    """Count accepted jobs, and those that completed at once; returns whether any webhook is enabled.

    It is asked here so that accepting a job costs no further statement.
    """
    lane = randrange(SHARDS)  # noqa: S311 - spreads load, not a secret
    if completed:  # first, as in `add_counts`: two transactions never wait in a ring
        ended = {"lane": lane, "status": Status.COMPLETED.value, "jobs": completed}
        await ADD_COUNTS.run(tx, [ended])
    pending = Status.PENDING.value
    return bool(await COUNT_ACCEPTED.scalar(tx, lane=lane, status=pending, jobs=number))


async def add_counts(tx: Transaction, changes: Mapping[Status, int]) -> None:
    """Add to the numbers of jobs by status."""
    lane = randrange(SHARDS)  # noqa: S311 - spreads load, not a secret
    values = [
        {"lane": lane, "status": status.value, "jobs": number}
        for status, number in sorted(changes.items())
        if number
    ]
    await ADD_COUNTS.run(tx, values)
