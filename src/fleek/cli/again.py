"""Commands that begin with a job that is there: make it again with changes, open it."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fleek.cli.exit_codes import Exit
from fleek.cli.generate import Output, make
from fleek.cli.job_ids import JobId
from fleek.cli.job_options import job_request
from fleek.cli.options import Session, command, connected

if TYPE_CHECKING:
    from fleek.client.models import JobRead

app = typer.Typer()

ONE_MODEL: Final = ("model", "models", "route", "provider")
"""Options that say where a job runs: one of them replaces all that the job had."""


@command(app, "again", request=job_request, session=connected)
def again(
    job_id: JobId,
    *,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="Another prompt.")
    ] = None,
    output: Output = None,
    request: dict[str, Any],
    session: Session,
) -> None:
    """Make another job with the request of one, and with what the options change in it.

    Written to stdout are the paths of the files, as by "fleek generate".
    """
    job = session.client.status(session.job(job_id))
    code = make(session, [prompt or job.prompt], _changed(job, request), output)
    raise typer.Exit(code)


def _changed(job: "JobRead", options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a new job: those of `job`, and the given ones in their place."""
    given = {name: value for name, value in options.items() if value is not None}
    route = job.route
    same: dict[str, Any] = {"parameters": job.parameters, "metadata": job.metadata or None}
    same |= {"tags": job.tags or None, "priority": job.priority}
    if route is not None and route.requested_parameters is not None:
        same["parameters"] = route.requested_parameters
    if not any(name in given for name in ONE_MODEL):
        names = [job.model_name] if route is None else route.requested
        several = len(names) > 1
        same |= {"models": names} if several else {"model": names[0]}
        same["provider"] = None if several else job.provider
    parameters = {**same.pop("parameters"), **given.pop("parameters", {})}
    return {**options, **same, **given, "parameters": parameters}


@command(app, "open", session=connected)
def open_job(
    job_id: JobId,
    *,
    only_print: Annotated[
        bool, typer.Option("--print", help="Write the address to stdout; open nothing.")
    ] = False,
    session: Session,
) -> None:
    """Open the page of a job in the browser: its files, its history, and what to do with it."""
    import webbrowser  # noqa: PLC0415 - not needed for most commands

    address = f"{session.url}/#/jobs/{session.job(job_id)}"
    if only_print or not webbrowser.open(address):
        session.screen.data(address)
        raise typer.Exit(Exit.DONE if only_print else Exit.JOB_FAILED)
    session.screen.note(f"opened {address}")
