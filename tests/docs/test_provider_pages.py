"""The examples on the pages about providers with an emulator work as shown, without an account."""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from chaos.host import Host
from examples import FENCE, ROOT, examples, misses, run
from service_process import Service, running, until

PAGES: Final = ("replicate", "fal", "use-openai-compatible-servers")


def shown(page: Path) -> dict[str, str]:
    """Return the settings of the example."""
    blocks = [text for language, text in FENCE.findall(page.read_text()) if language == "shell"]
    (block,) = (text for text in blocks if "export" in text)
    lines = [line.removeprefix("export ") for line in block.splitlines() if "=" in line]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> Path:
    """Return a page."""
    return ROOT / f"docs/how-to/{request.param}.md"


@pytest.fixture
def service(_full_suite: None, page: Path, tmp_path: Path) -> Generator[Service]:
    """Yield a running service with the settings of the page, and an emulator at another port."""
    host = Host(tmp_path, seed=1)
    settings = {
        name: value.replace("http://127.0.0.1:9009", host.url)
        for name, value in shown(page).items()
    }
    with running(tmp_path, **settings) as opened:
        opened.serve()
        until(lambda: opened.http.get("/livez").status_code == 200, why=opened.tails)
        yield opened
    host.close()


def test_every_example_works_as_shown(service: Service, page: Path) -> None:
    """Images, speech, a video; with callbacks and several accounts where the page has them."""
    found = examples(page)

    outputs = run(found, service)

    assert len(found) == 2
    pairs = zip(found, outputs, strict=True)
    assert [(one.text, miss) for one, out in pairs for miss in misses(one, out)] == []
