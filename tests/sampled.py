"""Crosses of many cases: the quick run tries some of them, the full run all."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import pytest

MOST_CASES: Final = 2
"""Cases of one test in the quick run."""


def beyond_sample(items: Iterable[pytest.Item]) -> Iterator[pytest.Item]:
    """Return the cases that the quick run leaves out: of each test all but two, evenly spaced.

    The first of the two differs from test to test, so that tests that share a parameter, such as
    the adapters of a port, try all of its values together.
    """
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("full") is None:
            cases[item.nodeid.partition("[")[0]].append(item)
    for number, test in enumerate(cases.values()):
        step = -(-len(test) // MOST_CASES)
        chosen = range(number % step, len(test), step)
        yield from (item for place, item in enumerate(test) if place not in chosen)


def sampled(cases: Iterable[Any], *, every: int) -> Sequence[Any]:
    """Return the cases as parameters, all but each `every`-th, from the first on, marked `full`."""
    marks: list[Sequence[pytest.MarkDecorator]] = [(), *[(pytest.mark.full,)] * (every - 1)]
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks[number % every])
        for number, case in enumerate(cases)
    ]
