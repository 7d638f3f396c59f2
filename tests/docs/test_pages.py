"""Generated pages are up to date with the code."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from fleek import registry
from fleek.providers.placeholder.provider import PlaceholderSettings
from fleek.settings import Settings
from fleek.storage.local import LocalStorageSettings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
SOURCES = [
    path
    for path in sorted((ROOT / "src/fleek").rglob("*.py"))
    if "emulator" not in path.parts  # has the errors of another service's format
]


REGISTERED = (
    (registry.PROVIDERS, "PROVIDERS"),
    (registry.STORAGES, "STORAGE_BACKEND"),
    (registry.DISPATCHERS, "DISPATCH"),
)


def quoted(page: str) -> set[str]:
    """Return every word in code quotes on a page of the reference."""
    return set(re.findall(r"`([^`\s]+)`", (REFERENCE / page).read_text()))


@pytest.mark.usefixtures("_full_suite")
def test_generated_pages_are_up_to_date() -> None:
    """Run ``make docs`` after a change of a setting or an error."""
    command = [sys.executable, "-m", "scripts.docs", "--check"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - this project's program

    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def declared() -> Iterator[str]:
    """Yield the name of every usable class of settings, read from the sources."""
    homes = {target.partition(":")[0] for known, _ in REGISTERED for target in known.values()}
    for path in SOURCES:
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        adapter = re.match(r"fleek\.(providers|storage|dispatch)\.(\w+)", module)
        if adapter is not None and adapter[0] not in homes:
            continue  # cannot be chosen
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                if "BaseSettings" in bases:
                    yield node.name


def imported(kind: type[BaseSettings] = BaseSettings) -> Iterator[type[BaseSettings]]:
    """Yield every loaded class of settings of the project."""
    for below in kind.__subclasses__():
        written = getattr(sys.modules.get(below.__module__), below.__name__, None)
        if below.__module__.startswith("fleek.") and written is below:  # not created dynamically
            yield below
        yield from imported(below)


def test_every_setting_is_documented() -> None:
    """Users find settings only in the reference."""
    for known, setting in REGISTERED:
        for name in known:
            registry.load(known, name, setting=setting)
    kinds = set(imported())

    names = {
        (str(kind.model_config.get("env_prefix", "")) + field).upper()
        for kind in kinds
        for field in kind.model_fields
    }

    assert {kind.__name__ for kind in kinds} == set(declared())
    assert names <= quoted("settings.md")


def test_the_example_of_a_settings_file_changes_nothing(tmp_path: Path) -> None:
    """Each line in it is the default, ready to be uncommented."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    settings = [line[1:] for line in lines if re.match(r"#[A-Z]", line)]
    (tmp_path / ".env").write_text("\n".join(settings))

    read = [Settings(), PlaceholderSettings(), LocalStorageSettings()]

    (tmp_path / ".env").unlink()
    assert len(settings) > 25
    assert read == [Settings(), PlaceholderSettings(), LocalStorageSettings()]


def codes(tree: ast.Module) -> Iterator[str]:
    """Yield every error code in a module."""
    for statement in tree.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.value, ast.Dict):
            values = list(_constants(statement.value.values))
            yield from (value for value in values if value.startswith("provider_"))
    known = dict(_named_constants(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from _constants(_assigned(statement) for statement in node.body)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in {"FieldError", "ProblemField"}:
                continue  # codes of fields, beside the problem's own code
            given = [word.value for word in node.keywords if word.arg == "code"]
            yield from _constants(given)
            yield from (
                known[one.id] for one in given if isinstance(one, ast.Name) and one.id in known
            )
            if node.func.id in {"JobError", "Failed"}:
                yield from _constants(node.args[:1])


def _named_constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for statement in tree.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield from ((statement.target.id, text) for text in _constants([statement.value]))


def _assigned(statement: ast.stmt) -> ast.expr | None:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    named = [one.id for one in targets if isinstance(one, ast.Name)]
    return statement.value if isinstance(statement, ast.Assign) and named == ["code"] else None


def _constants(nodes: Iterable[ast.expr | None]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_error_code_is_documented() -> None:
    """Programs depend on codes; add a new one in ``scripts/docs/errors.py``."""
    found = {code for path in SOURCES for code in codes(ast.parse(path.read_text()))}

    assert len(found) > 40
    assert found - quoted("errors.md") == set()
