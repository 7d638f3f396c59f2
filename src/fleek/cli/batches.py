"""`fleek batch`: many requests in one call."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from fleek.cli.exit_codes import Exit
from fleek.cli.options import Session, command, connected
from fleek.domain.job import Status

if TYPE_CHECKING:
    from fleek.client.models import BatchRead

app = typer.Typer()
batch = typer.Typer(no_args_is_help=True)
app.add_typer(batch, name="batch", help="Many jobs in one call.")

BatchId = Annotated[UUID, typer.Argument(metavar="ID", help="The batch's id.")]


@command(batch, "create", session=connected)
def create(
    file: Annotated[
        typer.FileText,
        typer.Argument(
            metavar="FILE",
            encoding="utf-8",
            help='One request in each line, as JSON ({"prompt": …}) or as a bare prompt; -: stdin.',
        ),
    ],
    *,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            help="An idempotency key: the same file with the same key is the same batch, and an "
            "interrupted one is continued.",
        ),
    ] = None,
    session: Session,
) -> None:
    """Create a job for each line, and write the id of the batch to stdout."""
    requests = [_request(number, line) for number, line in enumerate(file, 1) if line.strip()]
    if not requests:
        raise typer.BadParameter("holds no request", param_hint="FILE")
    made = session.client.batches.create(requests, idempotency_key=key)
    _write(session, made, made.id)
    session.screen.note(f"{made.total} jobs; to wait for them: fleek batch wait {made.id}")


@command(batch, "list", session=connected)
def list_batches(
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")] = 20,
    session: Session,
) -> None:
    """List batches, newest first: id, status, and the number of members by status."""
    found = list(session.client.batches.list(limit=limit))
    if session.screen.as_json:
        session.screen.json([each.to_dict() for each in found])
        return
    for each in found:
        session.screen.data(each.id, each.status.value, _counts(each))
    if not found:
        session.screen.note("There are no batches.")


@command(batch, "status", session=connected)
def status(batch_id: BatchId, *, session: Session) -> None:
    """Show how far a batch has come."""
    found = session.client.batches.get(batch_id)
    _write(session, found, found.id, found.status.value, _counts(found))


@command(batch, "wait", session=connected)
def wait(
    batch_id: BatchId,
    *,
    session: Session,
) -> None:
    """Wait until all jobs of a batch have ended. Exit code 1: not all have completed."""
    ended = session.client.batches.wait(batch_id, timeout=session.timeout)
    _write(session, ended, ended.id, ended.status.value, _counts(ended))
    if ended.counts[Status.COMPLETED] < ended.total:
        raise typer.Exit(Exit.JOB_FAILED)


@command(batch, "download", session=connected)
def download(
    batch_id: BatchId,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE|FOLDER", help="Where to put it; default: this folder."
        ),
    ] = None,
    session: Session,
) -> None:
    """Download the files of all completed members as one zip archive; write its path to stdout."""
    path = session.client.batches.download(batch_id, output)
    if session.screen.as_json:
        session.screen.json_line({"files": [str(path)]})
    else:
        session.screen.data(path)


@command(batch, "cancel", session=connected)
def cancel(batch_id: BatchId, *, session: Session) -> None:
    """Cancel the jobs of a batch that have not ended. The server goes on with it by itself."""
    session.client.batches.cancel(batch_id)
    session.screen.note("The jobs are being cancelled.")


@command(batch, "retry", session=connected)
def retry(batch_id: BatchId, *, session: Session) -> None:
    """Retry the members that failed. The server goes on with it by itself."""
    session.client.batches.retry(batch_id)
    session.screen.note("The jobs are being retried.")


def _request(number: int, line: str) -> dict[str, Any]:
    """Read a line: an object, or a prompt."""
    text = line.strip()
    if not text.startswith("{"):
        return {"prompt": text}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"line {number} is not a JSON object", param_hint="FILE")
    return value


def _counts(found: "BatchRead") -> str:
    counts = (f"{number} {status.value}" for status, number in found.counts.items() if number)
    return ", ".join(counts)


def _write(session: Session, found: "BatchRead", *fields: object) -> None:
    if session.screen.as_json:
        session.screen.json(found.to_dict())
    else:
        session.screen.data(*fields)
