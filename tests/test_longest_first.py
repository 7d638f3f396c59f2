"""The order in which tests begin."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from longest_first import LONG, longest_first

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A collected test, as far as it is looked at."""

    name: str
    fixturenames: tuple[str, ...] = ()


def long_case(name: str, fixture: str) -> Case:
    """Return a test that takes long."""
    return Case(name, ("_full_suite", fixture))


def order(cases: Sequence[Case], processes: int) -> list[str]:
    """Return the names in their order."""
    return [item.name for item in longest_first(cast(Any, cases), processes)]


def test_long_tests_begin_early() -> None:
    """Some of the others are between them, and on every second process before the first."""
    short = [Case(f"{number}", (LONG[0],) if number % 5 else ()) for number in range(20)]
    long = [long_case(name, LONG[-1]) for name in "cde"]

    found = order([*short, *long, long_case("a", LONG[0])], 2)

    assert [found.index(name) for name in "acde"] == [0, 15, 4, 19]
    assert [name for name in found if name.isdigit()] == [case.name for case in short]


def test_no_test_is_lost() -> None:
    """Nor where there are fewer short tests than long ones, or fewer than processes."""
    for shorts, longs, processes in ((0, 7, 3), (2, 7, 5), (1, 0, 4), (50, 3, 5)):
        cases = [Case(f"{n}") for n in range(shorts)] + [
            long_case(f"long {n}", LONG[0]) for n in range(longs)
        ]

        assert sorted(order(cases, processes)) == sorted(case.name for case in cases)


def test_long_tests_are_known_by_fixtures_that_exist() -> None:
    """A fixture with another name would let its tests begin at the end."""
    code = "\n".join(path.read_text() for path in TESTS.rglob("*.py"))
    fixtures = set(re.findall(r"@pytest\.fixture.*\n(?:async )?def (\w+)", code))

    assert set(LONG) <= fixtures
