"""The rate of requests is counted across concurrent processes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from fleek.domain.request_rate import request_rate
from fleek.store import request_rates
from fleek.store.database import Database, open_database
from samples import NOON

RATE = request_rate(600)
PROCESSES = 3


@pytest.fixture
async def processes(database_url: str) -> AsyncGenerator[list[Database]]:
    """Open one database several times, like several processes."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(open_database(database_url)) for _ in range(PROCESSES)
        ]


async def test_processes_together_stay_within_the_rate(processes: list[Database]) -> None:
    """For a bucket that is new to all of them, and for several buckets in another order."""
    takes = [
        request_rates.take(processes[n % PROCESSES], name, RATE, 7, now=NOON)
        for n in range(60)
        for name in (("a", "b") if n % 2 else ("b", "a"))
    ]

    leases = await asyncio.gather(*takes)

    assert sum(lease.tokens for lease in leases) == 2 * RATE.burst
    assert all(lease.tokens in {7, 2, 0} for lease in leases)  # 100 is 14 times 7, and 2
    later = NOON + timedelta(seconds=1)
    again = await asyncio.gather(
        *(request_rates.take(db, "a", RATE, 7, now=later) for db in processes)
    )
    assert sorted(lease.tokens for lease in again) == [0, 3, 7]


async def test_one_batch_shares_a_bucket(db: Database) -> None:
    """Callers of one process are in one transaction."""
    leases = await asyncio.gather(
        *(request_rates.take(db, "a", RATE, 40, now=NOON) for _ in range(4))
    )

    assert [lease.tokens for lease in leases] == [40, 40, 20, 0]
    assert leases[-1].full_at == NOON + timedelta(seconds=10)


async def test_full_buckets_are_removed(db: Database) -> None:
    """The others stay as they are."""
    for name, minutes in (("old", 0), ("new", 5)):
        await request_rates.take(db, name, RATE, 1, now=NOON + timedelta(minutes=minutes))

    removed = await request_rates.remove_full(db, before=NOON + timedelta(minutes=1))

    assert removed == 1
    kept = await request_rates.take(db, "new", RATE, 100, now=NOON + timedelta(minutes=5))
    assert kept.tokens == RATE.burst - 1
