"""Giving up what a removed provider is owed, on the service's own database."""

import typer

from fleek.cli.exit_codes import Exit
from fleek.cli.purging import opened
from fleek.cli.screen import Screen
from fleek.domain.errors import ConfigurationError
from fleek.engine.reconcile import abandon
from fleek.settings import Settings
from fleek.store import attempts


async def run(settings: Settings, screen: Screen, name: str, *, dry_run: bool, ask: bool) -> Exit:
    """Give up a provider's predictions, if somebody agrees where one is there to `ask`.

    Raises:
        ConfigurationError: The provider is configured.
    """
    async with opened(settings) as rt:
        if name in rt.providers:
            raise ConfigurationError(
                f"{name} is configured: the service asks it by itself; remove its settings first"
            )
        there = (await attempts.count_without_verdict(rt.db)).get(name, 0)
        if dry_run or (ask and there and not _agreed(name, there)):
            return _tell(screen, "would abandon", name, there)
        closed, failed = await abandon(rt, name)
    if failed:
        screen.warn(f"{failed} predictions could not be given up now: the log says why")
    _tell(screen, "abandoned", name, closed)
    return Exit.JOB_FAILED if failed else Exit.DONE


def _agreed(name: str, number: int) -> bool:
    question = (
        f"Count {number} predictions of {name} as lost, and fail the jobs that wait for them?"
    )
    return typer.confirm(question, err=True)


def _tell(screen: Screen, verb: str, name: str, number: int) -> Exit:
    if screen.as_json:
        screen.json({"done": verb, "provider": name, "predictions": number})
    else:
        screen.data(f"{verb} {number} predictions of {name}")
    return Exit.DONE
