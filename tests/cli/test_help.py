"""The help of every command: examples that parse, and values with names."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fleek.cli.examples import EXAMPLES
from fleek.cli.root import app

TYPES = re.compile(r"<(bool|boolean|str|text|int|integer|float|list|uuid|path)\b|int range")


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command with its whole name."""
    for child, command in group.commands.items():
        full = f"{name} {child}".strip()
        if hasattr(command, "commands"):
            yield from commands(command, full)
        else:
            yield full, command


ROOT: Any = typer.main.get_command(app)
ALL = dict(commands(ROOT))


def test_each_command_has_an_example() -> None:
    """And each example a command."""
    assert set(EXAMPLES) == set(ALL)


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_help_shows_examples_that_parse(
    name: str, fleek: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No example has an option that does not exist; no value is shown as its type."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a cat")

    ended = fleek(*name.split(), "--help")

    assert ended.code == 0
    assert TYPES.search(ended.out) is None, ended.out
    for example in EXAMPLES[name]:
        assert f"  {example}\n" in f"{ended.out}\n"
        words = shlex.split(re.split(r" [|&]", example)[0])
        assert words[: len(name.split()) + 1] == ["fleek", *name.split()]
        with ALL[name].make_context(name, words[len(name.split()) + 1 :]):
            pass
