"""The examples of README, tutorial and guides work as shown."""

from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from examples import ROOT, Example, examples, misses, run
from service_process import Service, delay, running, until


@pytest.fixture
def service(_full_suite: None, tmp_path: Path) -> Generator[Service]:
    """Yield a healthy service in which no lease expires."""
    busy = {"HEARTBEAT_SECONDS": "60", "MAX_WRITE_WAIT_SECONDS": "120"}  # a machine may be
    with running(tmp_path, **delay("0.1"), **busy) as opened:
        opened.serve()
        until(lambda: healthy(opened), why=opened.tails)
        yield opened


def healthy(service: Service) -> bool:
    """Whether every part is healthy: a service responds before its worker has begun."""
    return bool(service.http.get("/health/detailed").json()["status"] == "healthy")


def scheduled_later(example: Example) -> Example:
    """Return an example whose job is scheduled, so that slow machines can still cancel it."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    prompt = '"prompt": "Never mind"'
    text = example.text.replace(prompt, f'{prompt}, "run_at": "{tomorrow}"')
    return replace(example, text=text)


@pytest.mark.parametrize(
    ("page", "least"),
    [
        ("README.md", 15),
        ("docs/tutorial/first-job.md", 5),
        ("docs/how-to/back-up.md", 2),
        ("docs/how-to/use-media-inputs.md", 6),
        ("docs/how-to/use-the-sdk.md", 4),
    ],
)
def test_every_example_works_as_shown(page: str, least: int, service: Service) -> None:
    """Readers copy them, and a failing one ends their trial."""
    found = examples(ROOT / page)

    outputs = run([scheduled_later(one) for one in found], service)

    assert len(found) >= least
    pairs = zip(found, outputs, strict=True)
    assert [(one.text, miss) for one, out in pairs for miss in misses(one, out)] == []


def test_a_difference_is_detected() -> None:
    """Otherwise the comparison would prove nothing."""
    example = Example("sh", "", '{"id": "01…", "list": [{"a": 1}]}', "json")

    found = misses(example, '{"id": "02", "list": [{"a": 2, "b": 3}], "more": 1}')

    assert found == ["$.id: '02'", "$.list[0].a: 2 instead of 1"]


def test_omitted_fields_are_no_difference() -> None:
    """Responses on the pages are shortened."""
    example = Example("sh", "", '{"id": "01…", "list": [{"a": 1}]}', "json")

    assert misses(example, '{"id": "0198", "list": [{"a": 1, "b": 3}], "more": 1}') == []
