"""The example on the page about Cog works as shown, with a real Cog server."""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from cogserver import CogServer
from examples import ROOT, examples, misses, run
from service_process import Service, running

PAGE: Final = ROOT / "docs/how-to/cog.md"


@pytest.fixture
def service(_full_suite: None, tmp_path: Path) -> Generator[Service]:
    """Yield a running service with the settings of the page, and a server with a small model."""
    cog = CogServer(tmp_path / "cog")
    cog.start()
    try:
        with running(tmp_path, COG_URL=cog.url, COG_MODEL="acme/painter") as opened:
            opened.serve()
            yield opened
    finally:
        cog.stop()


def test_every_example_works_as_shown(service: Service) -> None:
    """A picture by the command line."""
    found = examples(PAGE)

    outputs = run(found, service)

    assert len(found) == 1
    pairs = zip(found, outputs, strict=True)
    assert [(one.text, miss) for one, out in pairs for miss in misses(one, out)] == []
