"""The sample of cases that the quick run tries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sampled import beyond_sample


@dataclass(frozen=True)
class Case:
    """A collected test, as far as it is looked at."""

    nodeid: str
    full: bool = False

    def get_closest_marker(self, name: str) -> object | None:
        """Return something if the test is marked."""
        return self if self.full and name == "full" else None


def left_out(cases: Sequence[Case]) -> list[str]:
    """Return the names of the cases that the quick run leaves out."""
    return [item.nodeid for item in beyond_sample(cast(Any, cases))]


def test_two_cases_of_a_test_are_kept() -> None:
    """They are evenly spaced, and a test with two or fewer keeps all."""
    cases = [Case("one"), *(Case(f"two[{value}]") for value in "ab")]
    cases += [Case(f"three[{value}]") for value in range(7)]

    assert left_out(cases) == [f"three[{value}]" for value in (0, 1, 3, 4, 5)]


def test_tests_that_share_a_parameter_try_all_its_values() -> None:
    """Else the suite of a port would try the same two adapters everywhere."""
    adapters = "abcd"
    cases = [Case(f"{test}[{adapter}]") for test in ("one", "two") for adapter in adapters]

    kept = {case.nodeid for case in cases} - set(left_out(cases))

    assert kept == {"one[a]", "one[c]", "two[b]", "two[d]"}


def test_cases_of_the_full_run_are_not_counted() -> None:
    """They are left out as it is."""
    cases = [Case("one[a]"), Case("one[b]", full=True), Case("one[c]"), Case("one[d]", full=True)]

    assert left_out(cases) == []
