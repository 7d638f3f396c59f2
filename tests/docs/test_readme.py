"""What README, tutorial and guides show is what happens."""

from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from examples import ROOT, Example, examples, misses, run
from service_process import Service, delay, running, until


@pytest.fixture
def service(_full_suite: None, tmp_path: Path) -> Generator[Service]:
    """Give a running service that is well, whose workers nobody takes for dead meanwhile."""
    with running(tmp_path, **delay("0.1"), HEARTBEAT_SECONDS="60") as opened:
        opened.serve()
        until(lambda: well(opened), why=opened.tails)
        yield opened


def well(service: Service) -> bool:
    """Whether every part is: a service answers before its worker has begun."""
    return bool(service.http.get("/health/detailed").json()["status"] == "healthy")


def not_today(example: Example) -> Example:
    """Return an example whose job, which it cancels, is still there on the slowest machine."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    prompt = '"prompt": "Never mind"'
    text = example.text.replace(prompt, f'{prompt}, "run_at": "{tomorrow}"')
    return replace(example, text=text)


@pytest.mark.parametrize(
    ("page", "least"),
    [("README.md", 15), ("docs/tutorial/first-job.md", 5), ("docs/how-to/back-up.md", 2)],
)
def test_every_example_does_what_is_shown(page: str, least: int, service: Service) -> None:
    """People copy them; the first one that fails is the last one they try."""
    found = examples(ROOT / page)

    outputs = run([not_today(one) for one in found], service)

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
