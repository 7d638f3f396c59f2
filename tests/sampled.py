"""Crosses of many cases: the quick run tries some of them, the full run all."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def sampled(cases: Iterable[Any], *, every: int) -> Sequence[Any]:
    """Return the cases as parameters, all but each `every`-th, from the first on, marked `full`."""
    marks: list[Sequence[pytest.MarkDecorator]] = [(), *[(pytest.mark.full,)] * (every - 1)]
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks[number % every])
        for number, case in enumerate(cases)
    ]
