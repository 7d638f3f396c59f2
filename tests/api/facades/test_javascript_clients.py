"""Official JavaScript clients, unmodified, with the facades.

They need Node 20 and npm, which fetches them: `pytest -m node`. Other runs leave them out.
"""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from client_environments import PROGRAM_SECONDS
from facade_site import KEY, Site
from fakes import PNG
from fleek.emulator.replicate.models import BY_NAME
from fleek.store import listing

HERE = Path(__file__).parent / "js"

pytestmark = pytest.mark.node


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the clients, in an environment of their own."""
    folder = tmp_path_factory.mktemp("js")
    for path in HERE.iterdir():
        shutil.copy(path, folder)
    (folder / "picture.png").write_bytes(PNG)
    _run(folder, "npm", "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund")
    return folder


def _run(folder: Path, *command: str, **env: str) -> str:
    ran = subprocess.run(  # noqa: S603 - our own programs
        command,
        cwd=folder,
        env={**_environment(), **env},
        capture_output=True,
        timeout=PROGRAM_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()


def _environment() -> dict[str, str]:
    import os  # noqa: PLC0415 - here alone

    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # noqa: TID251 - a child's environment


def check(site: Site, folder: Path, program: str, *arguments: str) -> dict[str, Any]:
    """Run a program with a client, and return what it has found."""
    trust = {"NODE_EXTRA_CA_CERTS": str(site.ca)}
    printed = _run(folder, "node", program, site.base, KEY, *arguments, **trust)
    found: dict[str, Any] = json.loads(printed)
    return found


def test_replicates_client_works(site: Site, folder: Path) -> None:
    """Create, run, wait, stream, files, lists, cancel, search, signatures, errors."""
    results = check(site, folder, "replicate.mjs")
    refused, failed = results.pop("refused"), results.pop("runFailed")

    story = "Once upon a time there was a ledger."
    assert results == {
        "run": "PNG",
        "runList": 2,
        "runVersion": 1,
        "runPolling": "PNG",
        "runWaitInVain": "PNG",
        "runText": story,
        "stream": [story, "done"],
        "createAndWait": [True, "succeeded", 1],
        "cancel": "canceled",
        "list": True,
        "files": ["text/plain", 5, {"kind": "test"}, True, True],
        "fileInput": True,
        "browse": [True, True, "default"],
        "webhook": [True, False],
        "meantTwice": 3,
    }
    assert (refused["status"], "NSFW" in failed["error"]) == (422, True)
    assert site.purchases("js twice") == 3


def test_replicates_client_repeats_and_pays_once(site: Site, folder: Path) -> None:
    """It sends a request up to six times, without a pause, if the answers are lost."""

    async def accepted() -> None:
        while not any(job.prompt == "js lost" for job in await _jobs(site)):
            await asyncio.sleep(0.01)

    site.line.losing, site.line.lose = accepted, 3

    results = check(site, folder, "replicate.mjs", "lost")

    assert results == {"repeated": True}
    assert site.line.lost == 3
    assert site.purchases("js lost") == 1


async def _jobs(site: Site) -> Any:
    page = await listing.page(site.rt.db, tenant_id="default", limit=100)
    return [view.job for view in page.views]


def test_fals_client_works_through_the_proxy(site: Site, folder: Path) -> None:
    """Run, subscribe, submit, status, result, cancel, fail, refuse, stream."""
    results = check(site, folder, "fal.mjs")
    refused, failed = results.pop("refused"), results.pop("failed")

    assert results == {
        "run": [2, 36],
        "subscribe": ["COMPLETED", 1, 36],
        "subscribeStreaming": 1,
        "lifecycle": [True, 1],
        "cancelled": "request_cancelled",
        "stream": 1,
        "meantTwice": 2,
    }
    assert (refused["status"], "seed" in refused["error"]) == (422, True)
    assert (failed["status"], "NSFW" in failed["error"]) == (422, True)


def test_fals_client_repeats_and_pays_once(site: Site, folder: Path) -> None:
    """It sends a request up to four times if the answers are lost."""
    site.line.lose = 2

    results = check(site, folder, "fal.mjs", "lost")

    assert results == {"repeated": 1}
    assert site.line.lost == 2
    assert site.purchases("fal js lost") == 1


def test_replicates_snippets_work(site: Site, folder: Path) -> None:
    """Its README's examples, and those that are read most; what is refused is in the page for users, too."""
    version = BY_NAME["stability-ai/sdxl"].version
    results = check(site, folder, "replicate_snippets.mjs", version, site.hook.url)
    prediction_id = results.pop("asksForAWebhook")

    assert results == {
        "savesEachOutput": "WEBP",
        "showsAnAddress": ["https:", 200],
        "takesPlainAddresses": "https://",
        "followsProgress": ["starting", "succeeded"],
        "pollsByHand": "https://",
        "streamsWords": "Once upon a time there was a ledger.",
        "enlargesAPicture": "https:",
        "sendsAFile": "https:",
        "feedsOneModelWithAnother": True,
        "abortsARun": "canceled",
        "addsItsOwnFetch": ["/replicate/v1/models"],
        "handlesErrors": {"token": 401, "prediction": 404, "content": "true"},
        "isRefused": {
            "no prompt, for a model that needs one": 422,
            "training": 404,
            "creation of a model": 405,
            "deployments.get": 404,
            "collections.get": 404,
        },
    }
    assert prediction_id in {str(job.id) for job in site.jobs()}


def test_fals_snippets_work(site: Site, folder: Path) -> None:
    """Its README's examples, and those that are read most; what is refused is in the page for users, too."""
    results = check(site, folder, "fal_snippets.mjs", site.hook.url)

    assert results == {
        "subscribesWithLogs": ["COMPLETED", 4, 6252023, "string"],
        "runs": ["image/webp", "image/webp"],
        "submitsThenAsks": ["COMPLETED", 1, True],
        "streamsTheStatus": "COMPLETED",
        "streamsTheResult": [1, 1],
        "makesAVideo": "video/mp4",
        "editsAResult": 1,
        "enlargesAPicture": "image/png",
        "uploadsAFile": [1, 6, False],
        "takesFilesAsArguments": 1,
        "handlesErrors": {"arguments": 422, "content": 422},
        "isRefused": {
            "a file of more than 90 MiB": 413,
            "an empty file": 422,
            "an argument that the model lacks": 422,
            "no prompt, for a model that needs one": 422,
            "an unknown application": 422,  # its address is none
        },
    }
    known = {job.prompt: job for job in site.jobs()}
    for prompt in ("js snippet uploaded", "js snippet blob"):
        assert str(known[prompt].input["image_prompt"]).startswith("upload:")
