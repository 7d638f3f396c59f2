"""Run the measures, print the table and write it to ``benchmarks/RESULTS.md``.

It ends in time whatever else the machine does: each measure has a share of what is left, by its weight,
and is broken off when that is used up; the table says so.
"""

import argparse
import os
import platform
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.api import requests
from benchmarks.busy import busy
from benchmarks.crowd import crowd
from benchmarks.databases import Databases, opened
from benchmarks.figures import FULL, HEAD, QUICK, Measure, Row, Scale
from benchmarks.jobs import counts, jobs
from benchmarks.latency import latency
from benchmarks.start import start

SHORTEST: Final = 5.0  # seconds of a measure
RESULTS: Final = Path(__file__).parent / "RESULTS.md"
KINDS: Final = ("sqlite", "postgres")
LIBRARIES: Final = (
    *("fastapi", "pydantic", "uvicorn", "uvloop", "sqlalchemy", "aiosqlite", "asyncpg"),
    *("aiohttp", "celery", "dramatiq"),
)
MEASURES: Final[dict[str, Measure]] = {
    "requests": requests,
    "busy": busy,
    "jobs": jobs,
    "latency": latency,
    "counts": counts,
    "crowd": crowd,
    "start": start,
}
WEIGHTS: Final = {
    "requests": 4,
    "busy": 7,
    "jobs": 17,
    "latency": 7,
    "counts": 2,
    "crowd": 3,
    "start": 3,
}
"""Of the time that is left."""


def main() -> None:
    """Run what was asked for."""
    asked = _arguments()
    scale = QUICK if asked.quick else FULL
    end = time.monotonic() + scale.total
    todo = [(kind, name) for kind in asked.database or KINDS for name in asked.only or MEASURES]
    rows: list[Row] = []
    print(HEAD)
    for kind in asked.database or KINDS:
        with opened(kind) as databases:
            while todo and todo[0][0] == kind:
                weight = WEIGHTS[todo[0][1]] / sum(WEIGHTS[name] for _, name in todo)
                seconds = max(weight * (end - time.monotonic()), SHORTEST)
                for row in _measured(todo.pop(0)[1], databases, scale, seconds):
                    rows.append(row)
                    print(row, flush=True)
    if not asked.only and not asked.database:
        _, mark, others = RESULTS.read_text(encoding="utf-8").partition("\n## ")
        text = _document(rows, quick=asked.quick) + mark + others  # of other programs: they stay
        RESULTS.write_text(text, encoding="utf-8")
        print(f"\nWritten to {RESULTS.name}.")


class OutOfTime(Exception):
    """A measure has used its share of the time."""


def _measured(name: str, databases: Databases, scale: Scale, seconds: float) -> Iterator[Row]:
    """Yield the lines of one measure, or what was measured when its time was over."""
    try:
        with _within(seconds):
            yield from MEASURES[name](databases, scale)
    except OutOfTime:
        yield Row(name, databases.kind, f"broken off after {seconds:.0f} s: the machine was busy")


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` where the block is after so many seconds; what it has opened is closed."""

    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one short round, within two minutes; figures are rough",
    )
    parser.add_argument("--only", action="append", choices=MEASURES, help="may be repeated")
    parser.add_argument("--database", action="append", choices=KINDS, help="default: both")
    return parser.parse_args()


def _document(rows: Sequence[Row], *, quick: bool) -> str:
    scale = QUICK if quick else FULL
    return f"""\
# Figures

Written by `make bench{" QUICK=1" if quick else ""}` on {datetime.now(UTC):%Y-%m-%d}{": rough figures" if quick else ""}. Each figure is the median of up to {scale.rounds}
round(s), with the lowest and the highest. A ratio is that of the yardstick's figure to ours, in turns
within the same run: by the processor time of the processes, which others on the same cores hardly change, and by
wall time, which they do. Yardsticks: for requests a bare FastAPI application that keeps nothing; for
jobs a bare pipeline on aiohttp that calls the same provider and stores the same files; for the start
the import of FastAPI and uvicorn. The load generator (32 connections), the provider (the emulator)
and the database share the cores; both databases write to the disk at each commit.

{_machine()}

{HEAD}
{chr(10).join(map(str, rows))}
"""


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"Machine: {len(os.sched_getaffinity(0))} cores ({platform.machine()}), {memory:.0f} GiB, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}."
    )


if __name__ == "__main__":
    main()
