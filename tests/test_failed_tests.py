"""Which failed tests CI runs once more."""

import pytest
from scripts.failed_tests import AT_MOST, refused


@pytest.mark.parametrize(
    "failed",
    [
        [],
        [f"tests/api/test_jobs.py::test_{number}" for number in range(AT_MOST + 1)],
        ["tests/api/test_jobs.py::test_one", "tests/chaos/test_storm.py::test_storm"],
        ["tests/domain/test_job.py::test_one"],
    ],
)
def test_a_finding_is_not_repeated(failed: list[str]) -> None:
    """Nor a broken run, nor many failures."""
    assert refused(failed)


def test_few_starved_tests_run_again() -> None:
    """One at a time, after the rest."""
    assert refused(["tests/providers/cog/test_poll.py::test_one"]) is None
