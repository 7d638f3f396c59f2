"""The order of a run: tests that take long begin early, on each of its processes.

A run ends when its last test ends. No test that waits for most of a minute may begin when the other
processes have nothing left to do. Nor do all of these run at once: every second process begins with
others, and between them, tests that need the processor use it.
"""

from collections.abc import Sequence
from itertools import chain, islice
from typing import Final

import pytest

LONG: Final = (
    "host",  # an emulated provider, and a service that is killed again and again
    *("own_postgres", "own_redis", "stack", "emulator"),
    *("run_program", "on_postgres", "service", "installation", "built", "wheels"),
)
"""The fixtures of tests that take long; the first is that of the longest."""
EARLY: Final = 0.6
"""The share of a process's other tests between which its long tests begin."""


def longest_first(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """Return the tests in an order of which each process gets an equal part.

    This is how pytest-xdist divides a list with ``--dist worksteal``. A process that has nothing left
    takes tests from the end of another one's part.
    """
    places = {item: _place(item) for item in items}
    long = sorted((item for item in items if places[item] < len(LONG)), key=places.__getitem__)
    others = iter([item for item in items if places[item] == len(LONG)])
    parts, left = [], len(items)
    for number in range(processes):
        size = left // (processes - number)
        left -= size
        own = long[number::processes]
        filling = [*islice(others, max(size - len(own), 0))]
        parts.append(_mixed(own, filling, waits=number % 2 == 1))
    return [*chain.from_iterable(parts), *others]


def _place(item: pytest.Item) -> int:
    """Return the place of a test's fixture in `LONG`, or its length."""
    used = getattr(item, "fixturenames", ())
    if "_full_suite" not in used:  # others have fixtures of the same names, with fakes
        return len(LONG)
    return next((place for place, name in enumerate(LONG) if name in used), len(LONG))


def _mixed(
    long: Sequence[pytest.Item], others: Sequence[pytest.Item], *, waits: bool
) -> list[pytest.Item]:
    """Begin with the longest test, or with some of the others, and put as many after each."""
    between = int(len(others) * EARLY / max(len(long), 1))
    rest = iter(others)
    order = [*islice(rest, between * waits)]
    for item in long:
        order += (item, *islice(rest, between))
    return [*order, *rest]
