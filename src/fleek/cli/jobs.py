"""Commands that make one request per job: submit, status, list, cancel, retry, collect."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from fleek.cli.following import followed
from fleek.cli.generate import Prompts, texts
from fleek.cli.job_ids import JobId, JobIds
from fleek.cli.job_options import job_request, with_uploads
from fleek.cli.line_format import LineFormat
from fleek.cli.options import Session, command, connected, past
from fleek.cli.present import describe, document, table, write
from fleek.domain.job import Kind, Status
from fleek.system_clock import wall_time

if TYPE_CHECKING:
    from fleek.client.models import JobRead

app = typer.Typer()


@command(app, "submit", request=job_request, session=connected)
def submit(prompts: Prompts, *, request: dict[str, Any], session: Session) -> None:
    """Submit jobs and write their ids to stdout; do not wait."""
    all_prompts = texts(prompts)
    request = with_uploads(session, request)
    for prompt in all_prompts:
        _write_submitted(session, session.client.submit(prompt, **request))


def _write_submitted(session: Session, job: "JobRead") -> None:
    write(session.screen, job, job.id)
    session.screen.note(f"{job.status}; to wait for it: fleek watch {job.id}")


@command(app, "status", session=connected)
def status(job_id: JobId, *, session: Session) -> None:
    """Show the current state of a job."""
    job = session.client.status(session.job(job_id))
    if session.screen.as_json:
        session.screen.json(document(job))
    else:
        describe(session.screen, job)


@command(app, "logs", session=connected)
def logs(
    job_id: JobId,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Write what comes, until the job has ended.")
    ] = False,
    session: Session,
) -> None:
    """Write what the model has printed, as the provider tells it."""
    if follow:
        for piece in followed(session.client, session.job(job_id)):
            _write_log(session, piece)
    else:
        _write_log(session, session.client.logs(session.job(job_id)))


def _write_log(session: Session, text: str) -> None:
    if session.screen.as_json:
        session.screen.json_line({"text": text})
    else:
        session.screen.text(text)


StatusOption = Annotated[
    list[Status] | None,
    typer.Option("--status", "-s", help="Only jobs with this status. May be given several times."),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", metavar="NAME", help="Only jobs of this model.")
]
ProviderOption = Annotated[
    str | None, typer.Option("--provider", metavar="NAME", help="Only jobs of this provider.")
]
KindOption = Annotated[
    Kind | None, typer.Option("--kind", help="Only jobs that have made this kind of file.")
]
TagOption = Annotated[str | None, typer.Option("--tag", help="Only jobs with this tag.")]
WordsOption = Annotated[
    str | None, typer.Option("--words", help="Only jobs whose prompt has all of these words.")
]
FavouritesOption = Annotated[bool, typer.Option("--favourites", help="Only favourites.")]
BatchOption = Annotated[
    UUID | None, typer.Option("--batch", metavar="ID", help="Only jobs of this batch.")
]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Created since 2026-12-24T18:00, or 2h ago."),
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Created before this time.")
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="TEXT", help="A line for each job: '{id} {status} {prompt}'."
    ),
]
OldestOption = Annotated[bool, typer.Option("--oldest", help="The oldest first.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")]


@command(app, "list", session=connected)
def list_jobs(
    *,
    status: StatusOption = None,
    model: ModelOption = None,
    provider: ProviderOption = None,
    kind: KindOption = None,
    tag: TagOption = None,
    words: WordsOption = None,
    favourites: FavouritesOption = False,
    batch: BatchOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    form: FormatOption = None,
    oldest: OldestOption = False,
    limit: LimitOption = 20,
    session: Session,
) -> None:
    """List jobs, newest first. With --format, {…} are fields of the job as in --json."""
    line = None if form is None else LineFormat(form)
    found = session.client.jobs(
        status,
        model=model,
        provider=provider,
        kind=kind,
        tag=tag,
        q=words,
        favourite=True if favourites else None,
        batch=batch,
        created_after=past(since, "--since"),
        created_before=past(until, "--until"),
        oldest_first=oldest,
        limit=limit,
    )
    _write_all(session, list(found), line)


def _write_all(session: Session, jobs: Sequence["JobRead"], line: LineFormat | None) -> None:
    if line is not None:
        for job in jobs:
            session.screen.data(line.of(document(job)))
    elif session.screen.as_json:
        session.screen.json([document(job) for job in jobs])
    elif jobs:
        table(session.screen, jobs, now=wall_time())
    else:
        session.screen.note("No jobs match.")


@command(app, "cancel", session=connected)
def cancel(
    job_ids: JobIds,
    *,
    session: Session,
) -> None:
    """Cancel jobs; a job that is already cancelled is not an error."""
    for job_id in session.jobs(job_ids):
        job = session.client.cancel(job_id)
        write(session.screen, job, job.id, job.status.value)


@command(app, "retry", session=connected)
def retry(
    job_id: JobId,
    *,
    again: Annotated[
        bool, typer.Option("--again", help="Make another job although a retry exists.")
    ] = False,
    session: Session,
) -> None:
    """Submit a failed or cancelled job's request again and write the new job's id to stdout.

    A retry of the same job is one job: if it was retried before, and that job has not failed and
    was not cancelled, its id is written.
    """
    _write_submitted(session, session.client.retry(session.job(job_id), again=again))


@command(app, "collect", session=connected)
def collect(
    job_ids: JobIds,
    *,
    session: Session,
) -> None:
    """Fetch the paid results of failed jobs again, while the provider has them.

    Nothing is paid for again. Use it after the cause that the job's error names has been fixed.
    """
    for job_id in session.jobs(job_ids):
        job = session.client.collect(job_id)
        write(session.screen, job, job.id, job.status.value)
