"""Commands that follow jobs to their end: generate, watch, download."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from fleek.cli.costs import write_estimates
from fleek.cli.exit_codes import Exit, explain
from fleek.cli.job_ids import JobId, JobIds
from fleek.cli.job_options import job_request, with_uploads
from fleek.cli.options import Session, command, connected, typed
from fleek.cli.places import Place, Places
from fleek.cli.present import document
from fleek.cli.progress import Display, display, ending, wait_many
from fleek.cli.prompt_files import Folder, read_prompts, submit_all
from fleek.domain.errors import FleekError
from fleek.domain.job import Status

if TYPE_CHECKING:
    from fleek.client.models import JobRead


GO_ON: Final = "What was accepted continues; the same command goes on with it."

app = typer.Typer()

PROMPT_HELP: Final = "What to make; one job each. -: each line of stdin."
Prompts = Annotated[list[str], typer.Argument(metavar="PROMPT", help=PROMPT_HELP)]
SomePrompts = Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help=PROMPT_HELP)]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|FOLDER",
        help="Where to put the files; default: this folder, named by the job's id. -: stdout.",
    ),
]


def texts(prompts: Sequence[str], stdin: Iterable[str] | None = None) -> list[str]:
    """Return the prompts, with the lines of `stdin` (None: the process's) in the place of ``-``.

    Raises:
        BadParameter: There is none.
    """
    lines: list[str] = []
    for prompt in prompts:
        if prompt == "-":
            lines += [typed(line.strip()) for line in stdin or sys.stdin if line.strip()]
        else:
            lines.append(typed(prompt))
    if not lines:
        raise typer.BadParameter("stdin holds no prompt", param_hint="PROMPT")
    return lines


@command(app, "generate", request=job_request, session=connected)
def generate(
    prompts: SomePrompts = None,
    *,
    output: Output = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Prompts, one in each line, in place of PROMPT; -o is a folder then, which remembers "
            "what is made: the same command goes on after an interruption.",
        ),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Write what it will cost, and make nothing.")
    ] = False,
    request: dict[str, Any],
    session: Session,
) -> None:
    """Make media: submit, wait, download. The paths of the files are written to stdout."""
    if (source is None) is (not prompts):
        raise typer.BadParameter("give either PROMPT or --from", param_hint="PROMPT")
    if source is not None:
        lines = read_prompts(source)
        if not estimate:
            raise typer.Exit(make_all(session, lines, request, folder=Path(output or ".")))
    else:
        lines = texts(prompts or [])
    if estimate:
        raise typer.Exit(write_estimates(session, lines, request))
    raise typer.Exit(make(session, lines, request, output))


def make(session: Session, prompts: Sequence[str], request: dict[str, Any], to: str | None) -> int:
    """Submit jobs, wait for them and download their files; returns the exit code."""
    place = Place(to, several=len(prompts) > 1, as_json=session.screen.as_json)
    unfinished: list[UUID] = []
    try:
        request = with_uploads(session, request)
        for prompt in prompts:
            unfinished.append(session.client.submit(prompt, **request).id)  # noqa: PERF401 - see except
    except (FleekError, KeyboardInterrupt) as error:
        return stopped(session, unfinished, error)
    return wait_for(session, unfinished, place=place)


def make_all(
    session: Session, prompts: Sequence[str], request: dict[str, Any], folder: Path
) -> int:
    """Make what is not in the folder yet; returns the exit code."""
    place = Folder(folder, request["run_at"])
    unfinished: list[UUID] = []
    try:
        submit_all(session, prompts, request, place, unfinished)
    except (FleekError, KeyboardInterrupt) as error:
        return stopped(session, unfinished, error, hint=GO_ON)
    session.screen.note(f"{len(prompts)} prompts, {len(prompts) - len(unfinished)} made before")
    return wait_for(session, unfinished, place=place, hint=GO_ON)


@command(app, "watch", session=connected)
def watch(
    job_ids: JobIds,
    *,
    session: Session,
) -> None:
    """Wait until jobs have ended. Id, status and address of each are written to stdout."""
    unfinished = session.jobs(job_ids)
    raise typer.Exit(wait_for(session, unfinished, place=None))


@command(app, "download", session=connected)
def download(
    job_id: JobId,
    *,
    output: Output = None,
    index: Annotated[
        int | None, typer.Option(min=0, help="Only this output, from 0; default: all.")
    ] = None,
    session: Session,
) -> None:
    """Download the files of a completed job. Their paths are written to stdout."""
    place = Place(output, several=False, as_json=session.screen.as_json)
    job = session.client.status(session.job(job_id))
    indexes = [output.index for output in job.outputs] if index is None else [index]
    _write(session, job, place.save(session.client, job, indexes or [0]))


def wait_for(
    session: Session, unfinished: list[UUID], *, place: Places | None, hint: str | None = None
) -> int:
    """Wait for all jobs, report or download each as it ends, and return the exit code."""
    worst = Exit.DONE
    try:
        with display(session.screen) as shown:
            for job in wait_many(session.client, unfinished, shown, timeout=session.timeout):
                code = _finish(session, job, place, shown)
                worst = worst or code
    except (FleekError, KeyboardInterrupt) as error:
        return stopped(session, unfinished, error, hint=hint)
    return worst


def _finish(session: Session, job: "JobRead", place: Places | None, shown: Display) -> Exit:
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
    """Write an ended job to stdout: its files, or without `paths` its status."""
    screen = session.screen
    if screen.as_json:
        files = {} if paths is None else {"files": [str(path) for path in paths]}
        screen.json_line({**document(job), **files})
    elif paths is None:
        screen.data(job.id, job.status.value, job.result_url or "")
    else:
        for path in paths:
            screen.data(path)


def stopped(
    session: Session,
    unfinished: Sequence[UUID],
    error: FleekError | KeyboardInterrupt,
    *,
    hint: str | None = None,
) -> Exit:
    """Report the interruption, and how to continue with the unfinished jobs: None: by commands."""
    if isinstance(error, KeyboardInterrupt):
        session.screen.warn("Interrupted.")
        code = Exit.INTERRUPTED
    else:
        code = explain(error)
    if hint is not None:
        session.screen.warn(hint)
    elif unfinished and code is not Exit.NOT_FOUND:
        session.screen.warn(
            "This job continues:" if len(unfinished) == 1 else "These jobs continue:"
        )
        session.screen.warn(f"  fleek watch {' '.join(map(str, unfinished))}")
        session.screen.warn(f"  fleek cancel {' '.join(map(str, unfinished))}")
    return code
