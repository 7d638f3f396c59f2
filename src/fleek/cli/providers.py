"""`fleek providers`: what to do about a provider that was removed."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fleek.cli.exit_codes import Exit
from fleek.cli.local_service import open_service
from fleek.cli.screen import Screen
from fleek.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from fleek.settings import Settings

app = typer.Typer()
providers = typer.Typer(no_args_is_help=True)
app.add_typer(providers, name="providers", help="The providers of the service.")


@providers.command()
def abandon(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A provider that was removed.")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show how many predictions there are.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Give up the predictions of a provider that is no longer configured.

    Their outcome cannot be asked for any more, and they cannot be cancelled. They count as lost: jobs
    that wait for one fail with provider_outcome_unknown, and purged files leave the storage. The
    command opens the database of the service with its settings: run it where the service runs.
    """
    import asyncio  # noqa: PLC0415 - heavy

    from fleek.environment import read  # noqa: PLC0415 - heavy
    from fleek.settings import Settings  # noqa: PLC0415 - heavy

    ask = not yes and sys.stdin.isatty()
    work = _abandon(read(Settings), Screen(as_json=as_json), name, dry_run=dry_run, ask=ask)
    raise typer.Exit(asyncio.run(work))


async def _abandon(
    settings: "Settings", screen: Screen, name: str, *, dry_run: bool, ask: bool
) -> Exit:
    """Give up the predictions of a provider, after confirmation if `ask`.

    Raises:
        ConfigurationError: The provider is configured.
    """
    from fleek.engine.reconcile import abandon  # noqa: PLC0415 - heavy
    from fleek.store import attempts  # noqa: PLC0415 - heavy

    async with open_service(settings) as rt:
        if name in rt.providers:
            raise ConfigurationError(
                f"{name} is configured, so the service asks it by itself; remove its settings first"
            )
        number = (await attempts.count_without_verdict(rt.db)).get(name, 0)
        if dry_run or (ask and number and not _confirmed(name, number)):
            return _report(screen, "would abandon", name, number)
        closed, failed = await abandon(rt, name)
    if failed:
        screen.warn(f"{failed} predictions could not be given up now: see the log")
    _report(screen, "abandoned", name, closed)
    return Exit.JOB_FAILED if failed else Exit.DONE


def _confirmed(name: str, number: int) -> bool:
    question = (
        f"Count {number} predictions of {name} as lost, and fail the jobs that wait for them?"
    )
    return typer.confirm(question, err=True)


def _report(screen: Screen, verb: str, name: str, number: int) -> Exit:
    if screen.as_json:
        screen.json({"done": verb, "provider": name, "predictions": number})
    else:
        screen.data(f"{verb} {number} predictions of {name}")
    return Exit.DONE
