"""The image's program: complete, used from the image alone, writing only its data."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import httpx2
import pytest

from backing_services import free_port
from containers.container import Container
from containers.image import ROOT, Image, is_sent, sources
from fleek import __version__
from service_process import PATIENCE, SMALL, until

PACKAGE: Final = ROOT / "src" / "fleek"


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".git/config",
        ".venv/bin/python",
        "fleek.db",
        "storage/media/a.png",
        "src/fleek/__pycache__/app.pyc",
        "tests/conftest.py",
    ],
)
def test_private_files_are_not_in_the_build_context(name: str) -> None:
    """Everyone who pulls an image can read its layers."""
    assert not is_sent(name)


def test_copied_files_are_in_the_build_context() -> None:
    """Otherwise the build fails at its first COPY."""
    found = sources()

    assert "src" in found
    assert [name for name in found if not is_sent(name) or not (ROOT / name).exists()] == []


def test_the_wheel_contains_every_file_of_the_package(image: Image) -> None:
    """Migrations, web pages and py.typed are easily forgotten."""
    ours = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if _belongs(path)}
    (packages,) = image.program.glob("lib/python3*/site-packages")
    installed = packages / "fleek"

    there = {path.relative_to(installed) for path in installed.rglob("*") if _belongs(path)}

    assert there == ours
    assert Path("py.typed") in there
    assert Path("store/migrations/versions/0001_jobs.py") in there


def _belongs(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc"


def test_the_program_is_that_of_the_image(image: Image) -> None:
    """Otherwise the other tests would test the checkout."""
    shown = image.run("fleek", "--version")
    found = image.run("python", "-c", "import fleek; print(fleek.__file__)")

    assert shown.stdout == f"fleek {__version__}\n"
    assert Path(found.stdout.strip()).is_relative_to(image.program)


def test_the_image_is_not_public_by_default(image: Image) -> None:
    """``docker run`` without API keys ends with one line that names the setting."""
    ended = image.run("fleek", "serve")

    assert ended.returncode == 2
    assert "ALLOW_ANONYMOUS" in ended.stderr.splitlines()[-1]


def test_the_image_serves_and_writes_only_its_data(image: Image) -> None:
    """The root file system is read-only: database and files are on the volume."""
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    own = {"API_HOST": "127.0.0.1", "API_PORT": port, "FLEEK_URL": url, "LOG_FORMAT": "json"}

    migrated = image.run("fleek", "migrate", **own)
    with (
        Container(image, ["fleek", "serve"], own) as serving,
        httpx2.Client(base_url=url, timeout=PATIENCE) as http,
    ):
        serving.await_health(["fleek", "health", "--quiet"])
        made = http.post("/api/v1/generate", json={"prompt": "a cat", "parameters": SMALL})
        job = f"/api/v1/jobs/{made.json()['id']}"
        until(lambda: http.get(job).json()["status"] == "completed", why=serving.tail)
        media = http.get(job).json()["outputs"][0]
        page = http.get("/", headers={"accept": "text/html"})
        picture = http.get(http.get(job).json()["result_url"]).content
        code, _ = serving.stop()

    assert (migrated.returncode, code) == (0, 0), serving.tail()
    assert "<html" in page.text
    assert hashlib.sha256(picture).hexdigest() == media["sha256"]
    assert {path.name for path in image.data.iterdir()} == {"fleek.db", "storage"}
    with closing(sqlite3.connect(image.data / "fleek.db")) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [
            (migrated.stdout.strip(),)
        ]
