# ruff: noqa: INP001 - a program, not a package
"""Makes docs/reference/cli.md from the commands: ``python scripts/make_cli_reference.py``.

A test fails while the page differs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from fleek.cli.exit_codes import Exit
from fleek.cli.root import app

PAGE: Final = Path(__file__).parents[1] / "docs/reference/cli.md"
SHARED: Final = "Server and output"
EVERYWHERE: Final = frozenset({"help", "install_completion", "show_completion"})
MEANINGS: Final = {
    Exit.DONE: "done",
    Exit.JOB_FAILED: "the job failed or was cancelled, or its state forbids what was asked",
    Exit.USAGE: "a wrong option, request or setting",
    Exit.KEY_REFUSED: "the key is missing, refused or not allowed to do this",
    Exit.NOT_FOUND: "there is no such job, file or model",
    Exit.TIMED_OUT: "the time to wait was over; the job goes on",
    Exit.UNREACHABLE: "the server cannot be reached, or cannot serve",
    Exit.INTERRUPTED: "interrupted by Ctrl-C; the job goes on",
}
INTRODUCTION: Final = """\
# The command line

<!-- Made by scripts/make_cli_reference.py; edit the commands. -->

Data is written to stdout, everything else to stderr: progress as a live picture on a terminal,
as plain lines elsewhere.

## Exit codes

| code | meaning |
| --: | --- |
"""


def page() -> str:
    """Return the page as it must stand in its file."""
    root: Any = typer.main.get_command(app)
    codes = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANINGS.items())
    commands = sorted(_commands(root, "fleek"), key=lambda named: (_operators(named[1]), named[0]))
    shared = next(_options(command, shared=True) for name, command in commands if "list" in name)
    parts = [
        INTRODUCTION + codes,
        "## Options of every command that talks to a server\n\n" + _table(shared),
        *(_section(name, command) for name, command in commands),
    ]
    return "\n".join(parts)


def _operators(command: Any) -> bool:
    return bool(getattr(command, "rich_help_panel", None) == "Operators")


def _commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    for child, command in group.commands.items():
        full = f"{name} {child}"
        if hasattr(command, "commands"):
            yield from _commands(command, full)
        else:
            yield full, command


def _section(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    shown = [_shown(one) for one in arguments]
    usage = " ".join([name, "[OPTIONS]", *shown])
    rows = [(f"`{one.metavar}`", one.help) for one in arguments]
    table = _table(rows + _options(command, shared=False))
    return f"## {name}\n\n{command.help}\n\n```\n{usage}\n```\n" + (f"\n{table}" if table else "")


def _shown(argument: Any) -> str:
    name = f"{argument.metavar}..." if argument.nargs == -1 else str(argument.metavar)
    return name if argument.required else f"[{name}]"


def _options(command: Any, *, shared: bool) -> list[tuple[str, str]]:
    return [
        _option(one)
        for one in command.params
        if one.param_type_name == "option"
        and not one.hidden
        and one.name not in EVERYWHERE
        and (one.rich_help_panel == SHARED) is shared
    ]


def _option(option: Any) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" {option.metavar or 'VALUE'}"
    words = [option.help]
    if option.envvar:
        words.append(f"Also `{option.envvar}`.")
    if option.default not in {None, False, True}:
        words.append(f"Default: `{option.default}`.")
    return names + value, " ".join(words)


def _table(rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    lines = "".join(f"| {name.replace('|', '&#124;')} | {what} |\n" for name, what in rows)
    return f"| | |\n| --- | --- |\n{lines}"


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
