"""The example on the page about ComfyUI works as shown."""

from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

from chaos.host import Host
from examples import FENCE, ROOT, examples, misses, run
from service_process import Service, running, until

PAGE: Final = ROOT / "docs/how-to/comfyui.md"


def template() -> Any:
    """Return the workflow of the example."""
    blocks = [text for language, text in FENCE.findall(PAGE.read_text()) if language == "json"]
    return blocks[0]


@pytest.fixture
def service(_full_suite: None, tmp_path: Path) -> Generator[Service]:
    """Yield a running service with the template of the page, and an emulator."""
    host = Host(tmp_path, seed=1)
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "lighthouses.json").write_text(template())
    settings = {
        "COMFYUI_URL": f"{host.url}/comfyui",
        "COMFYUI_WORKFLOWS": str(tmp_path / "workflows"),
    }
    with running(tmp_path, **settings) as opened:
        opened.serve()
        until(lambda: opened.http.get("/livez").status_code == 200, why=opened.tails)
        yield opened
    host.close()


def test_every_example_works_as_shown(service: Service) -> None:
    """A picture by a request, and one by the command line."""
    found = examples(PAGE)

    outputs = run(found, service)

    assert len(found) == 2
    pairs = zip(found, outputs, strict=True)
    assert [(one.text, miss) for one, out in pairs for miss in misses(one, out)] == []
