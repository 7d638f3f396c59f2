"""The example on the page about local speech works as shown."""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from examples import ROOT, examples, misses, run
from service_process import Service, running, until

PAGE: Final = ROOT / "docs/how-to/local-speech.md"


@pytest.fixture
def service(_full_suite: None, tmp_path: Path) -> Generator[Service]:
    """Yield a running service with the setting of the page."""
    pytest.importorskip("hibari")
    with running(tmp_path, PROVIDERS="placeholder,local") as opened:
        opened.serve()
        until(lambda: opened.http.get("/livez").status_code == 200, why=opened.tails)
        yield opened


def test_every_example_works_as_shown(service: Service) -> None:
    """A sound by the command line."""
    found = examples(PAGE)

    outputs = run(found, service)

    assert len(found) == 1
    pairs = zip(found, outputs, strict=True)
    assert [(one.text, miss) for one, out in pairs for miss in misses(one, out)] == []
