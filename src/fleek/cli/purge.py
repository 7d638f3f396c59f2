"""The command that removes files and metadata for good."""

import sys
from typing import Annotated
from uuid import UUID

import typer

from fleek.cli.options import command, connected
from fleek.cli.present import document
from fleek.cli.screen import Screen
from fleek.cli.session import Session
from fleek.cli.times import age
from fleek.domain.job import TERMINAL, Status

app = typer.Typer()


@command(app, "purge", session=connected)
def purge(
    job_ids: Annotated[
        list[UUID] | None, typer.Argument(metavar="ID", help="Jobs, by their ids.")
    ] = None,
    *,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE", help="Instead: all jobs that ended so long ago: 30d, 12h, 5m."
        ),
    ] = None,
    status: Annotated[
        Status | None, typer.Option("--status", "-s", help="Of those: only jobs that ended so.")
    ] = None,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Instead: files older than a day of no job at all.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how much there is to purge.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    session: Session,
) -> None:
    """Remove files and metadata for good; the jobs themselves stay.

    Jobs by their ids are purged through the server; one that has not ended is cancelled first. For
    --older-than and --orphans the command works on the service's database and storage itself, with
    its settings: run it where the service runs.
    """
    if sum(map(bool, (job_ids, older_than, orphans))) != 1:
        raise typer.BadParameter("give either IDs, or --older-than, or --orphans")
    if status is not None and (older_than is None or status not in TERMINAL):
        raise typer.BadParameter(
            "must be completed, failed or cancelled, beside --older-than", param_hint="--status"
        )
    if not job_ids:
        _purge_here(session.screen, older_than, status, dry_run=dry_run, ask=not yes)
    elif dry_run:
        raise typer.BadParameter("not with IDs", param_hint="--dry-run")
    else:
        _purge_some(session, job_ids)


def _purge_here(
    screen: Screen, older_than: str | None, status: Status | None, *, dry_run: bool, ask: bool
) -> None:
    """Purge on the service's own database and storage; without an age, orphans."""
    import asyncio  # noqa: PLC0415 - heavy

    from fleek.cli.purging import Operation  # noqa: PLC0415 - heavy
    from fleek.environment import read  # noqa: PLC0415 - heavy
    from fleek.settings import Settings  # noqa: PLC0415 - heavy

    operation = Operation(read(Settings), screen, dry_run=dry_run, ask=ask and sys.stdin.isatty())
    if older_than is None:
        work = operation.orphans()
    else:
        work = operation.old(age(older_than, "--older-than"), status)
    raise typer.Exit(asyncio.run(work))


def _purge_some(session: Session, job_ids: list[UUID]) -> None:
    for job_id in job_ids:
        job = session.client.purge(job_id)
        if session.screen.as_json:
            session.screen.json_line(document(job))
        else:
            session.screen.data(job.id, job.status.value)
