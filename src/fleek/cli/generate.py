"""Commands that follow jobs to their end: generate, watch, download."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from fleek.cli.costs import write_estimates
from fleek.cli.exit_codes import Exit, explain
from fleek.cli.options import Session, command, connected, job_request, typed, with_uploads
from fleek.cli.present import document
from fleek.cli.progress import Display, display, ending, wait_many
from fleek.domain.errors import FleekError
from fleek.domain.job import Status

if TYPE_CHECKING:
    from fleek.client import Client
    from fleek.schemas import JobRead


class Place:
    """A folder for files with names of their own, or one file."""

    def __init__(self, output: str | None, *, several: bool) -> None:
        """Read ``-o`` (None: the current folder); with `several` jobs it is always a folder.

        Raises:
            BadParameter: Nothing can be put there; better known before the job is paid for.
        """
        path = Path(output or ".")
        self._file: Path | None = None
        self._folder = path
        try:
            if path.is_dir():
                return
            if several or str(output).endswith("/"):
                path.mkdir(parents=True)
                return
        except OSError as error:
            raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="-o") from None
        if not path.parent.is_dir():
            raise typer.BadParameter(f"the folder {path.parent} is not there", param_hint="-o")
        self._file = path

    def save(self, client: "Client", job: "JobRead", indexes: Sequence[int]) -> list[Path]:
        """Download these outputs to their place; after the first, a file's get a number: `cat-1.png`.

        Raises:
            NotSaved: A file cannot be written.
            FleekError: Any other of `fleek.client.errors`.
        """
        return [
            client.download(job.id, self._path(nth), index=index)
            for nth, index in enumerate(indexes)
        ]

    def _path(self, nth: int) -> Path:
        if self._file is None:
            return self._folder
        return self._file if nth == 0 else self._file.with_stem(f"{self._file.stem}-{nth}")


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
    typer.Option(
        metavar="SECONDS", min=0, help="Stop waiting after this time; the job continues."
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
    prompts: Prompts,
    *,
    output: Output = None,
    timeout: Timeout = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Write what it will cost, and make nothing.")
    ] = False,
    request: dict[str, Any],
    session: Session,
) -> None:
    """Make media: submit, wait, download. The paths of the files are written to stdout."""
    all_prompts = texts(prompts)
    if estimate:
        raise typer.Exit(write_estimates(session, all_prompts, request))
    place = Place(output, several=len(all_prompts) > 1)
    unfinished: list[UUID] = []
    try:
        request = with_uploads(session, request)
        for prompt in all_prompts:
            unfinished.append(session.client.submit(prompt, **request).id)  # noqa: PERF401 - see except
    except (FleekError, KeyboardInterrupt) as error:
        raise typer.Exit(_stopped(session, unfinished, error)) from None
    raise typer.Exit(_wait_for(session, unfinished, place=place, timeout=timeout))


@command(app, "watch", session=connected)
def watch(
    job_ids: Annotated[list[UUID], typer.Argument(metavar="ID", help="The jobs' ids.")],
    *,
    timeout: Timeout = None,
    session: Session,
) -> None:
    """Wait until jobs have ended. Id, status and address of each are written to stdout."""
    unfinished = list(dict.fromkeys(job_ids))
    raise typer.Exit(_wait_for(session, unfinished, place=None, timeout=timeout))


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


def _wait_for(
    session: Session, unfinished: list[UUID], *, place: Place | None, timeout: float | None
) -> int:
    """Wait for all jobs, report or download each as it ends, and return the exit code."""
    worst = Exit.DONE
    try:
        with display(session.screen) as shown:
            for job in wait_many(session.client, unfinished, shown, timeout=timeout):
                code = _finish(session, job, place, shown)
                worst = worst or code
    except (FleekError, KeyboardInterrupt) as error:
        return _stopped(session, unfinished, error)
    return worst


def _finish(session: Session, job: "JobRead", place: Place | None, shown: Display) -> Exit:
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


def _stopped(
    session: Session, unfinished: Sequence[UUID], error: FleekError | KeyboardInterrupt
) -> Exit:
    """Report the interruption, and the commands that continue with the unfinished jobs."""
    if isinstance(error, KeyboardInterrupt):
        session.screen.warn("Interrupted.")
        code = Exit.INTERRUPTED
    else:
        code = explain(error)
    if unfinished and code is not Exit.NOT_FOUND:
        session.screen.warn(
            "This job continues:" if len(unfinished) == 1 else "These jobs continue:"
        )
        session.screen.warn(f"  fleek watch {' '.join(map(str, unfinished))}")
        session.screen.warn(f"  fleek cancel {' '.join(map(str, unfinished))}")
    return code
