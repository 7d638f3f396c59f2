"""The tree of commands."""

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Final, get_args
from uuid import UUID

import typer
from typer import _completion_classes
from typer.core import TyperGroup

from fleek import __version__
from fleek.cli import (
    again,
    audit,
    backup,
    batches,
    costs,
    generate,
    health,
    jobs,
    keys,
    mcp,
    models,
    operators,
    providers,
    purge,
    queue,
    tenants,
    uploads,
    webhooks,
)
from fleek.cli.examples import EXAMPLES

SUMMARY: Final = 200  # characters of a command's line in the list; it is wrapped


class Sections(TyperGroup):
    """Commands whose help lists them by who needs them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        _complete(self, "")

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options; a flag that is not given is False: None would load Pydantic."""
        options = super().get_params(ctx)
        for option in options:
            if getattr(option, "is_flag", False) and option.default is None:
                option.default = False
        return options

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        """Write one list for users and one for operators."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            title = getattr(command, "rich_help_panel", None) or "Commands"
            sections.setdefault(title, []).append((name, command.get_short_help_str(SUMMARY)))
        for title, rows in sorted(sections.items()):
            with formatter.section(title):
                formatter.write_dl(rows)


METAVARS: Final[Mapping[Any, str]] = {int: "N", float: "NUMBER", Path: "FILE", UUID: "ID"}
"""What stands for a value in the help, by its type; a choice is listed, all others are TEXT."""


def _metavar(option: Any) -> str:
    if option.param_type_name == "argument":
        return str(option.name).upper()
    kind = option.type_descriptor.annotation
    while get_args(kind):  # of a list, or beside None
        kind = next(each for each in get_args(kind) if each is not NoneType)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(choice.value for choice in kind)
    return METAVARS.get(kind, "TEXT")


def _complete(group: Any, name: str) -> None:
    """Give each command below a group its examples, and its values names instead of types."""
    for child, command in group.commands.items():
        full = f"{name} {child}".strip()
        if hasattr(command, "commands"):
            _complete(command, full)
            continue
        lines = "\n".join(f"  {line}" for line in EXAMPLES.get(full, ()))
        command.epilog = f"\b\nExamples:\n{lines}" if lines else None
        for option in command.params:
            if option.param_type_name == "argument":
                option.display_type_rich = lambda ctx: None  # noqa: ARG005 - its name says it
            if option.metavar is None and not getattr(option, "is_flag", False):
                option.metavar = _metavar(option)


# Our help has no markup of Rich's to be taken out, for which Rich would be loaded.
_completion_classes._sanitize_help_text = lambda text: text  # noqa: SLF001 - there is no other way

app = typer.Typer(
    name="fleek",
    cls=Sections,
    rich_markup_mode=None,  # Rich costs more than everything else that the help needs
    help="Generate media, and run the service that does.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer's way
    if asked:
        print(f"fleek {__version__}")  # noqa: T201 - the answer
        raise typer.Exit


@app.callback()
def fleek(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Generate media, and run the service that does.

    Users' commands talk to the server at FLEEK_URL, http://127.0.0.1:8000 by default.

    Exit codes: 0 done, 1 the job failed or was cancelled, 2 usage or setting, 3 key refused,
    4 not found, 5 timed out, 6 server unreachable, 130 interrupted.
    """


for part in (
    generate,
    again,
    jobs,
    batches,
    models,
    costs,
    health,
    uploads,
    mcp,
    purge,
    webhooks,
    providers,
    keys,
    tenants,
    queue,
    audit,
    backup,
    operators,
):
    app.add_typer(part.app)


def leave_out_others(args: Sequence[str]) -> None:
    """Leave out the commands that a process of the service does not run, for all of its life.

    Typer reads the parameters of each command, for any of them: a fortieth of the start of a service.
    """
    if args[:1] in (["serve"], ["worker"]):
        groups = app.registered_groups
        app.registered_groups = [each for each in groups if each.typer_instance is operators.app]


@app.command(rich_help_panel="Operators")
def version() -> None:
    """Print the version."""
    _print_version(asked=True)
