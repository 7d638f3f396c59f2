"""OpenAI's official JavaScript client, unmodified, with the facade.

Needs Node 20 and npm, which fetches the client: `pytest -m node`. Other runs leave it out.
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client_environments import PROGRAM_SECONDS
from facade_site import KEY, Site
from fakes import PNG

HERE = Path(__file__).parent / "openai_js"

pytestmark = pytest.mark.node

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the client in a directory of its own."""
    folder = tmp_path_factory.mktemp("openai-js")
    for path in HERE.iterdir():
        shutil.copy(path, folder)
    (folder / "picture.png").write_bytes(PNG)
    _run(folder, {}, "npm", "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund")
    return folder


@pytest.fixture
def node(site: Site, installed: Path) -> Run:
    """Return a function that runs a program with the client, and returns what it prints."""

    def run(program: str, *args: str) -> Any:
        base = f"{site.base}/openai/v1"
        variables = {
            "NODE_EXTRA_CA_CERTS": str(site.ca),
            "OPENAI_BASE_URL": base,
            "OPENAI_API_KEY": KEY,
        }
        return json.loads(_run(installed, variables, "node", program, base, KEY, *args))

    return run


def test_the_javascript_client_works(node: Run) -> None:
    """Images, videos, speech, models, errors."""
    results = node("check.mjs", base64.b64encode(PNG).decode())

    assert results == {
        "images": [2, "quality"],
        "edit": "PNG",
        "stream": ["image_generation.completed"],
        "video": ["completed", "sora-2", "ftyp"],
        "listed": True,
        "deleted": [True, 404],
        "speech": "RIFF",
        "models": True,
        "errors": [
            [400, "unknown_parameter", "colour"],
            [400, "moderation_blocked", None],
            [404, "model_not_found", "model"],
            [401, "invalid_api_key", None],
        ],
    }


def test_its_snippets_work(node: Run) -> None:
    """Its own examples, and those that are read most; what is refused is in the page for users, too."""
    results = node("snippets.mjs")

    assert results == {
        "makesAnImageWithAnAddress": ["image/png", "https://"],
        "savesAnImage": "WEBP",
        "streamsAnImage": ["image_generation.completed"],
        "editsAnImage": ["PNG", "PNG"],
        "saysSomethingToAFile": ["RIFF", "RIFF"],
        "makesAVideo": ["completed", 100, "ftyp"],
        "handlesErrors": [
            [True, 400, "Error", "invalid_value", True],
            [True, 400, "Error", "moderation_blocked", True],
            [True, 401, "Error", "invalid_api_key", True],
        ],
        "readsRawAnswers": [200, "user"],
        "listsModels": True,
        "isRefused": {
            "images.createVariation": 404,
            "a mask": 400,
            "videos.remix": 404,
            "a thumbnail": 400,
            "chat": 404,
        },
    }


def test_its_own_retries_pay_once(node: Run, site: Site) -> None:
    """Two tries are lost, so three requests are one job; the second call is another."""
    site.line.lose = 2

    node("retry.mjs", "openai js lost")

    made = [job.attempt for job in site.jobs() if job.prompt == "openai js lost"]
    assert (site.line.lost, made) == (2, [1, 1])
    assert site.purchases("openai js lost") == 2


def _run(folder: Path, variables: dict[str, str], *command: str) -> str:
    done = subprocess.run(  # noqa: S603 - node and npm
        command,
        cwd=folder,
        env={**os.environ, **variables},  # noqa: TID251 - a child's environment
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
