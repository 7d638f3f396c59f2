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
