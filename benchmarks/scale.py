"""What the coordinator's questions cost while many jobs wait: ``python -m benchmarks.scale [ROWS]...``.

All of them become due within one second, which is the worst that a schedule can do. Each question is
asked in turns, at most so many times and for so long; printed are the median of the wall time, the
processor time of the process that asks, and for PostgreSQL the indexes of the plan.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Final

from sqlalchemy import Engine, event, text

from benchmarks.databases import opened
from bulk_data import insert_jobs
from fleek.store import outlook, queue
from fleek.store.counters import count_jobs
from fleek.store.database import Database, open_database

ROWS: Final = (1_000, 10_000, 100_000)
LIMIT: Final = 257  # as `admit` asks with 64 slots
ROUNDS: Final = 50
SECONDS: Final = 5.0  # for one question
NOW: Final = datetime(2027, 1, 1, tzinfo=UTC)
MS: Final = 1000

WAIT: Final = """UPDATE jobs SET status = 'pending', stage = NULL, completed_at = NULL, worker_id = NULL,
    batch_id = NULL, run_at = :due"""

ASKED: Final[Mapping[str, Callable[[Database], Awaitable[Any]]]] = {
    "due": lambda db: queue.due(db, providers=["fake"], now=NOW, limit=LIMIT),
    "next run": lambda db: queue.next_run(db, providers=["fake"], now=NOW),
    "outlook": outlook.waiting_kinds,
    "counts": lambda db: count_jobs(db, now=NOW),
}


async def measure(url: str, rows: int) -> None:
    """Fill a database, and ask."""
    await insert_jobs(url, rows=rows)
    async with open_database(url) as db:
        async with db.write() as tx:
            await tx.execute(text(WAIT), {"due": _due(db)})
        await _analyzed(db)
        for name, ask in ASKED.items():
            walls, cpu = await _asked(db, ask)
            print(
                f"| {db.kind} | {rows:,} | {name} | {median(walls) * MS:.2f} ms | {cpu * MS:.2f} ms |",
                flush=True,
            )
        if db.kind == "postgresql":
            print(f"plan of `due`: {', '.join(sorted(await _indexes(db)))}", flush=True)


def _due(db: Database) -> Any:
    moment = NOW - timedelta(seconds=1)
    return moment if db.kind == "postgresql" else moment.strftime("%Y-%m-%d %H:%M:%S.%f")


async def _analyzed(db: Database) -> None:
    async with db.write() as tx:
        await tx.exec_driver_sql("ANALYZE")


async def _asked(
    db: Database, ask: Callable[[Database], Awaitable[Any]]
) -> tuple[list[float], float]:
    """Return the wall times, and the mean of the processor time."""
    await ask(db)
    walls: list[float] = []
    used, end = time.process_time(), time.monotonic() + SECONDS
    while len(walls) < ROUNDS and time.monotonic() < end:
        began = time.perf_counter()
        await ask(db)
        walls.append(time.perf_counter() - began)
    return walls, (time.process_time() - used) / len(walls)


async def _indexes(db: Database) -> set[str]:
    """Return what the plan of `due` uses."""
    sent: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, values: Any, *_others: Any) -> None:
        sent.append((statement, values))

    event.listen(Engine, "before_cursor_execute", note)
    await ASKED["due"](db)
    event.remove(Engine, "before_cursor_execute", note)
    statement, values = sent[0]
    async with db.read() as tx:
        plan = await tx.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values)
    found = plan.scalar_one()
    return set(_named(json.loads(found) if isinstance(found, str) else found))


def _named(plan: Any) -> Iterator[str]:
    """Yield the indexes, and the tables that are scanned."""
    if isinstance(plan, list):
        for part in plan:
            yield from _named(part)
    elif isinstance(plan, dict):
        if "Index Name" in plan:
            yield plan["Index Name"]
        elif plan.get("Node Type") == "Seq Scan":
            yield f"a scan of {plan['Relation Name']}"
        for part in plan.values():
            yield from _named(part)


def main() -> None:
    """Measure both databases."""
    print(
        "| database | jobs waiting | question | wall time | processor time |\n|---|---|---|---|---|"
    )
    for kind in ("sqlite", "postgres"):
        with opened(kind) as databases:
            for rows in [int(given) for given in sys.argv[1:]] or ROWS:
                url = databases.kept() if kind == "postgres" else f"{databases.kept()}-{rows}"
                asyncio.run(measure(url, rows))


if __name__ == "__main__":
    main()
