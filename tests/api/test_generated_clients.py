"""Clients generated from the OpenAPI description work, and it is unambiguous."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from service_process import running

DESCRIPTION: Final = Path(__file__).parent.parent / "docs" / "openapi.json"  # see tests/docs
GENERATOR: Final = "openapi-python-client==0.29.1"
SECONDS: Final = 300.0
USE: Final = """
import sys

from fleek_client import Client
from fleek_client.api.jobs import create_job, list_jobs
from fleek_client.api.media import download_media
from fleek_client.models import JobCreate

client = Client(base_url=sys.argv[1])
job = create_job.sync(client=client, body=JobCreate(prompt="A cat"), prefer="wait=60")
page = list_jobs.sync(client=client, limit=1)
media = download_media.sync_detailed(client=client, job_id=job.id)
print(job.status.value, [found.id == job.id for found in page], media.content[:4])
"""


def run(*command: str, cwd: Path) -> str:
    """Run a command, and return its output."""
    done = subprocess.run(  # noqa: S603 - tools installed by this test
        command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.usefixtures("_full_suite")
def test_a_python_client_is_generated_and_works(tmp_path: Path) -> None:
    """By a widely used generator in its own environment, without a warning."""
    uv, python = str(Path(sys.executable).parent / "uv"), str(tmp_path / "venv/bin/python")
    run(uv, "venv", "-q", "--python", sys.executable, "venv", cwd=tmp_path)
    run(uv, "pip", "install", "-q", "--python", python, GENERATOR, "ruff", cwd=tmp_path)
    generator = str(tmp_path / "venv/bin/openapi-python-client")

    said = run(generator, "generate", "--path", str(DESCRIPTION), cwd=tmp_path)
    (tmp_path / "fleek-client/use.py").write_text(USE)
    with running(tmp_path) as service:
        service.serve()
        found = run(
            python, "use.py", f"http://127.0.0.1:{service.port}", cwd=tmp_path / "fleek-client"
        )

    assert "WARNING" not in said, said
    assert found.strip() == r"completed [True] b'\x89PNG'"


@pytest.mark.node
def test_types_are_generated_for_typescript(tmp_path: Path) -> None:
    """They compile in strict mode."""
    npm = shutil.which("npm")
    assert npm is not None, "install Node 20 with npm"
    packages = ("openapi-typescript@7", "typescript@5")
    run(npm, "install", "--silent", "--no-package-lock", "--no-audit", *packages, cwd=tmp_path)
    tools = tmp_path / "node_modules/.bin"

    said = run(str(tools / "openapi-typescript"), str(DESCRIPTION), "-o", "api.d.ts", cwd=tmp_path)
    run(str(tools / "tsc"), "--noEmit", "--strict", "api.d.ts", cwd=tmp_path)

    assert "warn" not in said.lower()
