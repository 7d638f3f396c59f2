"""A job as text: columns for people, fields for programs."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fleek.cli.screen import Screen, clean
from fleek.domain.job import Status

if TYPE_CHECKING:
    from fleek.client.models import JobRead, OutputRead

ROOM_OF_OTHERS = 36 + 12 + 7 + 3 * 2  # id, status, age, and the gaps between

MARKS = {
    Status.PENDING: ("·", "dim"),
    Status.PROCESSING: ("●", "cyan"),
    Status.COMPLETED: ("✓", "green"),
    Status.FAILED: ("✗", "red"),
    Status.CANCELLED: ("-", "yellow"),
}


def document(job: "JobRead") -> dict[str, Any]:
    """Return the job as the server's JSON."""
    return job.to_dict()


def write(screen: Screen, job: "JobRead", *fields: object) -> None:
    """Write a job as a line of JSON if that is wanted, else these fields of it."""
    if screen.as_json:
        screen.json_line(document(job))
    else:
        screen.data(*fields)


def short(text: str, width: int) -> str:
    """Return one clean line of at most `width` characters."""
    line = clean(text)
    return line if len(line) <= width else line[: width - 1] + "…"


def took(job: "JobRead") -> str:
    """Describe the time from a job's submission to its end; empty before that."""
    if job.completed_at is None:
        return ""
    return duration(job.completed_at - job.created_at)


def duration(time: timedelta) -> str:
    """Format a duration in its largest fitting unit: ``2.1 s``, ``4 min``, ``3 h``, ``2 d``."""
    seconds = max(time.total_seconds(), 0)
    if seconds < 100:
        return f"{seconds:.1f} s"
    for size, unit in ((86_400, "d"), (3600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 60:.0f} min"


def size(count: int) -> str:
    """Format a number of bytes in its largest fitting unit."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def state(job: "JobRead") -> str:
    """Describe a job's state in a few words."""
    if job.status is Status.PENDING and job.retry_count:
        return f"pending, attempt {job.retry_count + 1} of {job.max_attempts}"
    if job.status is Status.PENDING and job.queue_position:
        return f"pending, {job.queue_position} before it"
    if job.status is Status.PROCESSING and job.retrying is not None:
        return "processing, its result waits to be stored"
    return job.status.value


def describe(screen: Screen, job: "JobRead") -> None:
    """Write the details of one job."""
    model = f"{job.model_name} ({job.provider})"
    rows: list[tuple[str, object]] = [
        *(("id", job.id), ("status", state(job)), ("prompt", job.prompt), ("model", model)),
        ("parameters", json.dumps(job.parameters, ensure_ascii=False) if job.parameters else ""),
        ("progress", "" if job.progress is None else f"{job.progress:.0%}"),
        ("created", _moment(job.created_at)),
        ("runs at", _moment(job.run_at) if job.status is Status.PENDING else ""),
        ("took", took(job)),
        ("retries", f"{job.retry_count} of {job.max_attempts - 1}" if job.retry_count else ""),
        ("waits for", _awaited(job)),
        ("error", f"{job.error_message} ({job.error_code})" if job.error_code else ""),
        ("purged", _moment(job.purged_at)),
        *(("file", _file(output)) for output in job.outputs),
    ]
    for label, value in rows:
        if value != "":
            screen.data(f"{label:<11} {value}")


def _moment(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _awaited(job: "JobRead") -> str:
    retrying = job.retrying
    if retrying is None:
        return ""
    return f"{retrying.reason} ({retrying.code}); next try {_moment(retrying.next_at)}"


def _file(output: "OutputRead") -> str:
    parts = [output.content_type, size(output.size_bytes)]
    if output.width and output.height:
        parts.insert(1, f"{output.width}x{output.height}")
    if output.duration_seconds:
        parts.insert(1, f"{output.duration_seconds:.1f} s")
    return f"{output.url} ({', '.join(parts)})"


def table(screen: Screen, jobs: Sequence["JobRead"], *, now: datetime) -> None:
    """Write jobs as a table on a terminal, else as fields: id, status, created, model, prompt."""
    if not screen.out.is_terminal:
        for job in jobs:
            created = job.created_at.isoformat()
            screen.data(job.id, job.status.value, created, job.model_name, job.prompt)
        return
    from rich.table import Table  # noqa: PLC0415 - only for terminals
    from rich.text import Text  # noqa: PLC0415 - only for terminals

    capacity = screen.out.width - ROOM_OF_OTHERS
    # a narrow terminal shows the prompt alone
    model_room = min(28, capacity // 2) if capacity >= 36 else 0
    titles = ("ID", "STATUS", "AGE", *(("MODEL",) if model_room else ()), "PROMPT")
    grid = Table(*titles, box=None, pad_edge=False, header_style="dim")
    for job in jobs:
        mark, style = MARKS[job.status]
        texts = [
            duration(now - job.created_at),
            short(job.prompt, max(capacity - model_room - 2, 10)),
        ]
        if model_room:
            texts.insert(1, short(job.model_name, model_room))
        status = Text(f"{mark} {job.status}", style=style)
        grid.add_row(str(job.id), status, *(Text(text) for text in texts))
    screen.out.print(grid)
