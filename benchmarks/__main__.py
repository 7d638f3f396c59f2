"""Run the measures, print the table and write it to ``benchmarks/RESULTS.md``."""

import argparse
import os
import platform
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.databases import opened
from benchmarks.measures import FULL, MEASURES, QUICK, Row

RESULTS: Final = Path(__file__).parent / "RESULTS.md"
KINDS: Final = ("sqlite", "postgres")
LIBRARIES: Final = ("fastapi", "pydantic", "uvicorn", "uvloop", "sqlalchemy", "asyncpg")
HEAD: Final = "| measure | database | figure | ratio | target |\n|---|---|---|---|---|"


def main() -> None:
    """Run what was asked for."""
    asked = _arguments()
    scale = QUICK if asked.quick else FULL
    rows: list[Row] = []
    print(HEAD)
    for kind in asked.database or KINDS:
        with opened(kind) as databases:
            for name in asked.only or MEASURES:
                for row in MEASURES[name](databases, scale):
                    rows.append(row)
                    print(_line(row), flush=True)
    if not asked.only and not asked.database:
        _, mark, others = RESULTS.read_text(encoding="utf-8").partition("\n## ")
        text = _document(rows, quick=asked.quick) + mark + others  # of other programs: they stay
        RESULTS.write_text(text, encoding="utf-8")
        print(f"\nWritten to {RESULTS.name}.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round; figures are rough")
    parser.add_argument("--only", action="append", choices=MEASURES, help="may be repeated")
    parser.add_argument("--database", action="append", choices=KINDS, help="default: both")
    return parser.parse_args()


def _document(rows: Sequence[Row], *, quick: bool) -> str:
    rounds = (QUICK if quick else FULL).rounds
    return f"""\
# First figures

Written by `make bench`{" (--quick: rough)" if quick else ""} on {datetime.now(UTC):%Y-%m-%d}. Each figure is the median of {rounds} round(s), with the
lowest and the highest. The ratio is to a bare FastAPI application that takes the same requests in
turns with the service, in the same run. The load generator (32 connections) and the database share
the machine's cores with what is measured; both databases write to the disk at each commit.

{_machine()}

{HEAD}
{chr(10).join(map(_line, rows))}
"""


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"Machine: {len(os.sched_getaffinity(0))} cores ({platform.machine()}), {memory:.0f} GiB, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}."
    )


def _line(row: Row) -> str:
    return f"| {row.measure} | {row.database} | {row.figure} | {row.ratio} | {row.target} |"


if __name__ == "__main__":
    main()
