"""The distribution fleek-client: small, complete, and the other half of fleek."""

import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_process import Service, running, until

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "packages/client"
MOST_PACKAGES = 10
SCRIPT = """\
import json, sys
from importlib.metadata import distributions
from fleek import Client
with Client() as client:
    result = client.generate("A lamp", parameters={"width": 64, "height": 64}, timeout=120)
    print(json.dumps({
        "png": result.output.read()[:4].hex(),
        "jobs": [job.prompt for job in client.jobs()],
        "packages": sorted(each.metadata["Name"] for each in distributions()),
        "home": sys.modules["fleek"].__file__,
    }))
"""


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command, and return its stdout."""
    done = subprocess.run(  # noqa: S603 - our own build
        [*command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", **env},  # noqa: TID251 - a child's environment
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory, _full_suite: None) -> tuple[Path, Path]:
    """Build both wheels: that of the client, and that of the rest; the first from its sdist."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t"]
    run(*build, "wheel", cwd=ROOT)
    run(*build, "sdist", cwd=CLIENT)
    (sdist,) = folder.glob("*.tar.gz")
    run("tar", "xzf", sdist, cwd=folder)
    run(*build, "wheel", cwd=folder / sdist.name.removesuffix(".tar.gz"))
    (client,) = folder.glob("fleek_client-*.whl")
    (rest,) = folder.glob("fleek-*.whl")
    return client, rest


def modules(wheel: Path) -> set[str]:
    """Return the files of the package in a wheel."""
    names = zipfile.ZipFile(wheel).namelist()
    return {name for name in names if name.startswith("fleek/")}


def test_every_file_is_in_one_of_both(wheels: tuple[Path, Path]) -> None:
    """Two owners of a file would remove it from each other; a file without one would be missing."""
    client, rest = map(modules, wheels)
    sources = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src/fleek").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert client & rest == set()
    assert client | rest == sources
    assert "fleek/client/models.py" in client


def test_both_have_one_version() -> None:
    """They share modules, so they fit only together; `make release` writes both."""
    fleek, client = (
        tomllib.loads((folder / "pyproject.toml").read_text()) for folder in (ROOT, CLIENT)
    )
    version = client["project"]["version"]

    assert f"fleek-client=={version}" in fleek["project"]["dependencies"]
    assert f'__version__ = "{version}"' in (ROOT / "src/fleek/__init__.py").read_text()
    assert (CLIENT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.fixture
def service(tmp_path: Path, _full_suite: None) -> Iterator[Service]:
    """Run a service with the placeholder."""
    with running(tmp_path) as opened:
        opened.serve()
        until(
            lambda: opened.http.get("/health/detailed").json()["status"] == "healthy",
            why=opened.tails,
        )
        yield opened


def test_the_client_alone_makes_a_picture(
    wheels: tuple[Path, Path], service: Service, tmp_path: Path
) -> None:
    """In an environment that holds nothing else, from the package index."""
    home = tmp_path / "empty"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin/python"
    uv = Path(sys.executable).parent / "uv"
    run(uv, "pip", "install", "-q", "--python", python, wheels[0], cwd=tmp_path)

    address = f"http://127.0.0.1:{service.port}"
    said = json.loads(run(python, "-c", SCRIPT, cwd=tmp_path, FLEEK_URL=address))

    assert said["png"] == "89504e47"
    assert said["jobs"] == ["A lamp"]
    assert said["home"].startswith(str(home))
    assert "fleek-client" in said["packages"]
    assert len(said["packages"]) <= MOST_PACKAGES, said["packages"]
