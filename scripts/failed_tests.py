# ruff: noqa: INP001 - a program, not a package
"""Decide whether the tests that failed last may run once more.

Usage: `python -m scripts.failed_tests`; the exit code is 1 where they may not.
"""

import json
import sys
from pathlib import Path
from typing import Final

FAILED: Final = Path(".pytest_cache/v/cache/lastfailed")
AT_MOST: Final = 5
ONCE: Final = (
    *("tests/chaos/test_sweep", "tests/chaos/test_storm", "tests/chaos/test_checker"),
    *("tests/e2e/test_kill", "tests/domain/"),
)
"""Tests of guarantees, and tests that wait for nothing: one failure is a finding."""


def refused(failed: list[str]) -> str | None:
    """Return why these tests do not run again, or None where they do."""
    if not failed:
        return "no test is known to have failed: the run itself was broken"
    if len(failed) > AT_MOST:
        return f"{len(failed)} tests failed, more than {AT_MOST}"
    once = [name for name in failed if name.startswith(ONCE)]
    return f"a failure here is a finding, also once: {', '.join(once)}" if once else None


def main() -> int:
    """Name the tests that failed, and whether they run again."""
    failed = sorted(json.loads(FAILED.read_text())) if FAILED.exists() else []
    for name in failed:
        print(f"failed: {name}")  # noqa: T201 - what CI shows
    reason = refused(failed)
    print(f"Not again: {reason}" if reason else "Again, one at a time:")  # noqa: T201 - likewise
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
