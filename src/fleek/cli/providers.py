"""The command that gives up what a removed provider is owed."""

import sys
from typing import Annotated

import typer

from fleek.cli.exit_codes import Exit
from fleek.cli.screen import Screen

app = typer.Typer()
providers = typer.Typer(no_args_is_help=True)
app.add_typer(providers, name="providers", help="The providers of the service.")


@providers.command()
def abandon(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A provider that was removed.")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many predictions there are.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Give up the predictions of a provider that is no longer configured.

    Nobody can be asked any more whether they were paid for, and nobody stops them. They count as
    lost; jobs that still wait for one fail with provider_outcome_unknown, and what was purged leaves
    the storage. The command works on the service's database, with its settings: run it where the
    service runs.
    """
    import asyncio  # noqa: PLC0415 - heavy

    from fleek.cli.abandoning import run  # noqa: PLC0415 - heavy
    from fleek.environment import read  # noqa: PLC0415 - heavy
    from fleek.settings import Settings  # noqa: PLC0415 - heavy

    ask = not yes and sys.stdin.isatty()
    work = run(read(Settings), Screen(as_json=as_json), name, dry_run=dry_run, ask=ask)
    raise typer.Exit(Exit(asyncio.run(work)))
