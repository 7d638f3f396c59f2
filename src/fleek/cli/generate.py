"""Commands that see jobs through: generate, watch, download."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from fleek.cli.exit_codes import Exit, explain
from fleek.cli.options import command, connected, job_request, typed
from fleek.cli.output_path import Place
from fleek.cli.present import document
from fleek.cli.progress import Display, display, ending
from fleek.cli.session import Session
from fleek.cli.wait_many import wait_many
from fleek.domain.errors import FleekError
from fleek.domain.job import Status

if TYPE_CHECKING:
    from fleek.schemas import JobRead

app = typer.Typer()

Prompts = Annotated[
    list[str],
    typer.Argument(metavar="PROMPT", help="What to make; one job each. -: each line of stdin."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|FOLDER",
        help="Where to put the files; default: this folder, named by the job's id.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", min=0, help="Stop waiting after this time; the job goes on."),
]


def texts(prompts: Sequence[str], stdin: Iterable[str] | None = None) -> list[str]:
    """Return the prompts, with the lines of `stdin` (None: the process's) in the place of ``-``.

    Raises:
        BadParameter: There is none.
    """
    found: list[str] = []
    for prompt in prompts:
        if prompt == "-":
            found += [typed(line.strip()) for line in stdin or sys.stdin if line.strip()]
        else:
            found.append(typed(prompt))
    if not found:
        raise typer.BadParameter("stdin holds no prompt", param_hint="PROMPT")
    return found


@command(app, "generate", request=job_request, session=connected)
def generate(
    prompts: Prompts,
    *,
    output: Output = None,
    timeout: Timeout = None,
    request: dict[str, Any],
    session: Session,
) -> None:
    """Make media: submit, wait, download. The paths of the files are written to stdout."""
    wanted = texts(prompts)
    place = Place(output, several=len(wanted) > 1)
    left: list[UUID] = []
    try:
        for prompt in wanted:
            left.append(session.client.generate(prompt, **request).id)  # noqa: PERF401 - see except
    except (FleekError, KeyboardInterrupt) as error:
        raise typer.Exit(_stopped(session, left, error)) from None
    raise typer.Exit(_see_through(session, left, place=place, timeout=timeout))


@command(app, "watch", session=connected)
def watch(
    job_ids: Annotated[list[UUID], typer.Argument(metavar="ID", help="The jobs' ids.")],
    *,
    timeout: Timeout = None,
    session: Session,
) -> None:
    """Wait until jobs have ended. Id, status and address of each are written to stdout."""
    left = list(dict.fromkeys(job_ids))
    raise typer.Exit(_see_through(session, left, place=None, timeout=timeout))


@command(app, "download", session=connected)
def download(
    job_id: Annotated[UUID, typer.Argument(metavar="ID", help="The job's id.")],
    *,
    output: Output = None,
    index: Annotated[
        int | None, typer.Option(min=0, help="Only this output, from 0; default: all.")
    ] = None,
    session: Session,
) -> None:
    """Download the files of a completed job. Their paths are written to stdout."""
    place = Place(output, several=False)
    job = session.client.status(job_id)
    indexes = [output.index for output in job.outputs] if index is None else [index]
    _write(session, job, place.save(session.client, job, indexes or [0]))


def _see_through(
    session: Session, left: list[UUID], *, place: Place | None, timeout: float | None
) -> int:
    """Wait for all jobs, deal with each as it ends, and return the exit code."""
    worst = Exit.DONE
    try:
        with display(session.screen) as shown:
            for job in wait_many(session.client, left, shown, timeout=timeout):
                code = _deal_with(session, job, place, shown)
                worst = worst or code
    except (FleekError, KeyboardInterrupt) as error:
        return _stopped(session, left, error)
    return worst


def _deal_with(session: Session, job: "JobRead", place: Place | None, shown: Display) -> Exit:
    paths: list[Path] = []
    failed = job.status is not Status.COMPLETED
    try:
        if place is not None:
            paths = place.save(session.client, job, [output.index for output in job.outputs])
    except FleekError as error:
        with shown.aside():
            return explain(error)
    with shown.aside():
        if failed and session.screen.quiet:
            session.screen.warn(f"fleek: job {job.id} {ending(job)}")
        _write(session, job, None if place is None else paths)
    return Exit.JOB_FAILED if failed else Exit.DONE


def _write(session: Session, job: "JobRead", paths: Sequence[Path] | None) -> None:
    """Write an ended job to stdout: its files, or without `paths` what became of it."""
    screen = session.screen
    if screen.as_json:
        files = {} if paths is None else {"files": [str(path) for path in paths]}
        screen.json_line({**document(job), **files})
    elif paths is None:
        screen.data(job.id, job.status.value, job.result_url or "")
    else:
        for path in paths:
            screen.data(path)


def _stopped(
    session: Session, left: Sequence[UUID], error: FleekError | KeyboardInterrupt
) -> Exit:
    """Say why the waiting ended and how to go on with the jobs that do."""
    if isinstance(error, KeyboardInterrupt):
        session.screen.warn("Interrupted.")
        code = Exit.INTERRUPTED
    else:
        code = explain(error)
    if left and code is not Exit.NOT_FOUND:
        session.screen.warn("This job goes on:" if len(left) == 1 else "These jobs go on:")
        session.screen.warn(f"  fleek watch {' '.join(map(str, left))}")
        session.screen.warn(f"  fleek cancel {' '.join(map(str, left))}")
    return code
