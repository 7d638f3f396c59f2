"""What finished jobs cost those who ask: ``python -m benchmarks.growth [ROWS]...``.

A database with 10,000 jobs and one with many more take turns; of each, 80 are waiting or under way, and one
was submitted in each second. Each read of the API and each question of a loop is asked in both; printed are
the lowest wall times and their ratio. Ten million jobs on PostgreSQL need about 30 GB and half an
hour to fill: name the database with ``postgres 10000000``.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from benchmarks.databases import Databases, opened
from bulk_data import insert_jobs
from fleek.store.database import Database, open_database
from store.test_plans import CALLS

FEW: Final = 10_000
LIVE: Final = 1_000  # of these, 8 in 100 have not ended
ROUNDS: Final = 40
SECONDS: Final = 6.0  # for one question
MS: Final = 1000
READS: Final = (
    *("get", "attempts", "history", "output", "first page", "page by key", "page of a status"),
    *("page of a model", "page of a kind", "page of favourites", "page of a tag", "oldest page"),
    *("count", "days", "statistics", "stream", "deliveries", "failed deliveries", "batch"),
)
LOOPS: Final = (
    *("outlook", "due", "next run", "uncollected", "overdue", "from the future", "tally", "held"),
    *("routed", "waiting", "unsettled", "owed", "in flight", "without verdict", "medians"),
    *("purging", "expired media", "expired metadata", "ended", "lanes", "running"),
    *("waiting for inputs", "uploads being removed", "repeat with a key"),
)


async def measure(databases: Databases, rows: int) -> None:
    """Fill both databases, and ask both in turns."""
    few, many = (
        databases.kept(),
        databases.kept() + ("" if databases.kind == "postgres" else "-many"),
    )
    await insert_jobs(few, rows=FEW, live=LIVE)
    began = time.monotonic()
    await insert_jobs(many, rows=rows, live=LIVE)
    print(f"Filled with {rows:,} jobs in {time.monotonic() - began:.0f} s.\n", flush=True)
    print(f"| {databases.kind} | {FEW:,} jobs | {rows:,} jobs | ratio |\n|---|---|---|---|")
    async with open_database(few) as small, open_database(many) as large:
        for name in (*READS, *LOOPS):
            a, b = await _asked(small, large, CALLS[name][0])
            print(f"| {name} | {a:.2f} ms | {b:.2f} ms | {b / a:.2f} |", flush=True)


async def _asked(
    small: Database, large: Database, ask: Callable[[Database], Awaitable[Any]]
) -> tuple[float, float]:
    """Return the lowest wall times, in milliseconds: what other programs disturb least."""
    found: tuple[list[float], list[float]] = ([], [])
    for db in (small, large):
        await ask(db)
    end = time.monotonic() + SECONDS
    while len(found[0]) < ROUNDS and (not found[0] or time.monotonic() < end):
        for db, walls in zip((small, large), found, strict=True):
            began = time.perf_counter()
            await ask(db)
            walls.append(time.perf_counter() - began)
    return min(found[0]) * MS, min(found[1]) * MS


def main() -> None:
    """Measure one database, or both."""
    kinds = [given for given in sys.argv[1:] if not given.isdigit()] or ["sqlite", "postgres"]
    for kind in kinds:
        with opened(kind) as databases:
            for rows in [int(given) for given in sys.argv[1:] if given.isdigit()] or [1_000_000]:
                asyncio.run(measure(databases, rows))


if __name__ == "__main__":
    main()
