"""What README, tutorial and guides show is what happens."""

from collections.abc import Generator
from pathlib import Path

import pytest

from examples import ROOT, Example, examples, misses, run
from service import Service, running


@pytest.fixture
def service(tmp_path: Path) -> Generator[Service]:
    """Give a running service whose predictions take long enough to be cancelled."""
    slow = {"REPLICATE_MOCK_DELAY_MIN": "2", "REPLICATE_MOCK_DELAY_MAX": "2"}
    with running(tmp_path, **slow) as opened:
        opened.serve()
        yield opened


@pytest.mark.parametrize(
    ("page", "least"),
    [("README.md", 15), ("docs/tutorial/first-job.md", 5), ("docs/how-to/back-up.md", 2)],
)
def test_every_example_does_what_is_shown(page: str, least: int, service: Service) -> None:
    """People copy them; the first one that fails is the last one they try."""
    found = examples(ROOT / page)

    outputs = run(found, service)

    assert len(found) >= least
    pairs = zip(found, outputs, strict=True)
    assert [(one.text, miss) for one, out in pairs for miss in misses(one, out)] == []


def test_a_difference_is_seen() -> None:
    """A comparison that lets everything pass would be no test of the examples."""
    example = Example("sh", "", '{"id": "01…", "list": [{"a": 1}]}', "json")

    found = misses(example, '{"id": "02", "list": [{"a": 2, "b": 3}], "more": 1}')

    assert found == ["$.id: '02'", "$.list[0].a: 2 instead of 1"]


def test_what_is_left_out_is_no_difference() -> None:
    """Answers are shortened on the page."""
    example = Example("sh", "", '{"id": "01…", "list": [{"a": 1}]}', "json")

    assert misses(example, '{"id": "0198", "list": [{"a": 1, "b": 3}], "more": 1}') == []
