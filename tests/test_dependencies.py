"""Declared dependencies agree with the imports."""

import ast
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

import fleek

SOURCE: Final = Path(fleek.__file__).parent
PROJECT: Final = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["project"]
PROGRAMS: Final = {"flower", "imageio-ffmpeg"}  # run, not imported
OURS: Final = {"fleek", "fleek-client"}  # this source, in two distributions


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> set[str]:
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    names = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for lines in lists for line in lines}
    return {_normal(name) for name in names} - OURS


def _imported() -> set[str]:
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    owners = packages_distributions()
    tops = {module.partition(".")[0] for module in found}
    return {_normal(name) for top in tops for name in owners.get(top, ())} - OURS


@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_every_dependency_is_imported() -> None:
    """Each dependency has a cost: unused ones are removed."""
    assert _declared() - _imported() - PROGRAMS == set()


def _locked(name: str) -> dict[str, str]:
    """Return the packages of a lock file with their versions."""
    text = (SOURCE.parents[1] / name).read_text()
    return {
        _normal(package): version
        for package, version in re.findall(r"^([\w.-]+)==([^ ;\\]+)", text, re.MULTILINE)
    }


def test_make_run_installs_no_library_of_an_extra() -> None:
    """Only what the service needs with its default settings, in the versions that are tested."""
    lean, whole = _locked("requirements-run.lock"), _locked("requirements.lock")
    extras = {
        _normal(re.split(r"[^\w.-]", line, maxsplit=1)[0])
        for lines in PROJECT["optional-dependencies"].values()
        for line in lines
    }

    assert lean.items() <= whole.items()
    assert extras & lean.keys() == set()
    assert {"celery", "dramatiq", "obstore", "asyncpg"} <= whole.keys() - lean.keys()


@pytest.mark.parametrize(
    "name", ["requirements-run.lock", "requirements.lock", "requirements-dev.lock"]
)
def test_a_lock_file_names_hashes_and_no_index(name: str) -> None:
    """It works with any index, and what is installed is what was locked."""
    text = (SOURCE.parents[1] / name).read_text()

    assert "://" not in text
    assert text.count("--hash=sha256:") > len(_locked(name))
