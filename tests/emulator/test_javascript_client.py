"""The official JavaScript client, unmodified, with the emulator.

Needs Node 20 and npm, which fetches the client: `pytest -m node`. Other runs leave it out.
"""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from client_environments import PROGRAM_SECONDS
from fleek.emulator.replicate.models import BY_NAME
from fleek.emulator.server import Emulator

HERE = Path(__file__).parent / "js"

pytestmark = pytest.mark.node


@pytest.fixture
async def results(emulator: Emulator, tmp_path: Path) -> dict[str, Any]:
    """Install the client in its own directory, and run every operation once."""
    for name in ("package.json", "check.mjs"):
        shutil.copy(HERE / name, tmp_path)
    await _run(
        tmp_path, "npm", "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund"
    )
    sdxl = BY_NAME["stability-ai/sdxl"].version
    printed = await _run(tmp_path, "node", "check.mjs", emulator.api_url, sdxl)
    found: dict[str, Any] = json.loads(printed)
    return found


async def test_the_javascript_client_works(results: dict[str, Any]) -> None:
    """Create, run, wait, stream, files, lists, cancel, search, signatures, errors."""
    refused, failed = results.pop("refused"), results.pop("runFailed")
    addresses = [results.pop(name) for name in ("run", "runPolling", "runWaitInVain")]
    lists = [results.pop(name) for name in ("runList", "runVersion")]

    story = "Once upon a time there was a ledger."

    assert results == {
        "runText": story,
        "runDataUri": "PNG",
        "stream": [story, "done"],
        "createAndWait": [True, "succeeded", 1],
        "cancel": "canceled",
        "list": True,
        "files": ["text/plain", 5, {"kind": "test"}, 1, True],
        "fileInput": True,
        "browse": [True, 2, True, "cpu", "emulator"],
        "webhook": [True, False],
    }
    assert (refused["status"], "NSFW" in failed["error"]) == (422, True)
    assert all(address.endswith("/0.png") for address in addresses)
    assert [[url[-6:] for url in urls] for urls in lists] == [["0.webp", "1.webp"], ["/0.png"]]


async def _run(directory: Path, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PROGRAM_SECONDS):
        printed, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    return printed.decode()
