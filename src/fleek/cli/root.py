"""The tree of commands."""

from typing import Annotated

import typer

from fleek import __version__
from fleek.cli import generate, health, jobs, models, operators, providers, purge

app = typer.Typer(
    name="fleek",
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


for part in (generate, jobs, models, health, purge, providers, operators):
    app.add_typer(part.app)


@app.command(rich_help_panel="Operators")
def version() -> None:
    """Print the version."""
    _print_version(asked=True)
