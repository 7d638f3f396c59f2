"""A job as a prediction in Replicate's form."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from fleek.api.facades.outputs import address_of
from fleek.domain.inputs import UPLOAD, texts_of, with_values
from fleek.domain.job import Job, Stage, Status
from fleek.domain.media import Media
from fleek.schemas import Addresses
from fleek.schemas.events import EventType

PREFIX: Final = "/replicate/v1"
OVERDUE: Final = "deadline_exceeded"
STATUSES: Final[Mapping[Status | Stage, str]] = {
    Status.PENDING: "starting",
    Stage.STARTING: "starting",
    Stage.UNKNOWN: "starting",
    Stage.WAITING: "processing",
    Stage.COLLECTING: "processing",
    Status.COMPLETED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELLED: "canceled",
}
"""Clients stop at a status that is none of these."""

EVENTS: Final[Mapping[str, tuple[EventType, ...]]] = {
    "start": (EventType.STARTED,),
    "output": (EventType.COMPLETED,),
    "logs": (EventType.PROGRESS,),
    "completed": (EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED),
}
"""By the name of an event in `webhook_events_filter`."""

METADATA: Final = "replicate"
"""What the facade notes of a prediction in its job's metadata: ``{"output": "list" | "single"}``, and the model's
``{"model": NAME}`` if that was an alias."""

VERSION: Final = re.compile(r"[0-9a-f]{64}")
PROGRESS: Final = re.compile(r"^\s*\d+%\s*\|.+?\|\s*\d+/\d+", re.MULTILINE)
"""What clients look for in logs."""


def version_id(model: str) -> str:
    """Return the version that a model of ours has: 64 hexadecimal digits, always the same."""
    return sha256(f"fleek model {model}".encode()).hexdigest()


def status_of(job: Job) -> str:
    """Return the status of a job as clients know it; one that was too late counts as cancelled."""
    if job.status is Status.FAILED and job.error is not None and job.error.code == OVERDUE:
        return "canceled"
    return STATUSES[job.state]


def present(
    job: Job, media: Sequence[Media], addresses: Addresses, *, logs: str = "", output: Any = None
) -> dict[str, Any]:
    """Return the prediction that a job is. `output`: in the place of the addresses of its files."""
    model, _, version = asked_model(job).partition(":")
    if VERSION.fullmatch(model):
        version = model
    removed = job.purged_at is not None
    body: dict[str, Any] = {
        "id": str(job.id),
        "model": model,
        "version": version if len(version) == 64 else version_id(model),
        "input": shown_input(job, addresses),
        "logs": with_progress(job, logs),
        "output": None if removed else output or _output(job, media, addresses),
        "error": job.error.message if job.status is Status.FAILED and job.error else None,
        "status": status_of(job),
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "completed_at": _time(job.completed_at) if job.terminal else None,
        "data_removed": removed,
        "source": "api",
        "metrics": _metrics(job, media) if job.terminal else {},
        "urls": _urls(job, addresses),
    }
    if version == "deployment":
        body["deployment"] = model
    if job.webhook is not None:
        body["webhook"] = job.webhook.url
        body["webhook_events_filter"] = _filter(job.webhook.events)
    return body


def _filter(kinds: Sequence[str]) -> list[str]:
    """Return the names of events of a webhook; "output" is part of "completed"."""
    found = [name for name, each in EVENTS.items() if set(each) <= set(kinds)]
    return [name for name in found if name != "output" or "completed" not in found]


def asked_model(job: Job) -> str:
    """Return the name of the model that the caller has asked for."""
    noted = job.metadata.get(METADATA)
    if isinstance(noted, Mapping) and isinstance(noted.get("model"), str):
        return str(noted["model"])
    return job.model if job.routing is None else job.routing.request.models[0]


def shown_input(job: Job, addresses: Addresses) -> dict[str, Any]:
    """Return the input that the caller has sent: prompt, parameters, and files by their address."""
    given = job.input if job.routing is None else job.routing.request.parameters
    files = {
        pointer: f"{addresses.public}{PREFIX}/files/{found[1]}"
        for pointer, text in texts_of(given).items()
        if (found := UPLOAD.fullmatch(text)) is not None
    }
    return {"prompt": job.prompt, **with_values(given, files)}


def makes_list(job: Job, media: Sequence[Media]) -> bool:
    """Whether the output is a list: if the model can make several, as far as that is known."""
    noted = job.metadata.get(METADATA)
    if isinstance(noted, Mapping) and noted.get("output") in {"list", "single"}:
        return bool(noted["output"] == "list")
    if len(media) > 1 or "num_outputs" in job.input:
        return True
    # of a version alone nothing is known; those of models of pictures make lists
    return VERSION.fullmatch(asked_model(job)) is not None and all(
        file.content_type.startswith("image/") for file in media
    )


def _output(job: Job, media: Sequence[Media], addresses: Addresses) -> Any:
    found = [address_of(file, addresses) for file in media]
    if job.status is not Status.COMPLETED or not found:
        return None
    return found if makes_list(job, media) else found[0]


def with_progress(job: Job, logs: str) -> str:
    """Return the logs, with a line about the progress that clients can read, if they have none."""
    if job.progress is None or PROGRESS.search(logs):
        return logs
    done = round(job.progress * 100)
    bar = ("█" * (done // 10)).ljust(10)
    start = logs if not logs or logs.endswith("\n") else f"{logs}\n"
    return f"{start}{done:3d}%|{bar}| {done}/100\n"


def _metrics(job: Job, media: Sequence[Media]) -> dict[str, Any]:
    if job.completed_at is None:
        return {}
    metrics: dict[str, Any] = {"total_time": (job.completed_at - job.created_at).total_seconds()}
    if job.started_at is not None:
        metrics["predict_time"] = (job.completed_at - job.started_at).total_seconds()
    if pictures := sum(file.content_type.startswith("image/") for file in media):
        metrics["image_count"] = pictures
    return metrics


def _urls(job: Job, addresses: Addresses) -> dict[str, str]:
    own, stream = f"{addresses.public}{PREFIX}/predictions/{job.id}", f"{job.id}.stream"
    return {
        "get": own,
        "cancel": f"{own}/cancel",
        "web": f"{addresses.public}/api/v1/jobs/{job.id}",
        "stream": f"{addresses.public}{PREFIX}/streams/{stream}{addresses.query(stream)}",
    }


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
