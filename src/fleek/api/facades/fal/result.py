"""A job as a request in fal's form: its status, and its result or its failure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fleek.api.facades.outputs import address_of
from fleek.domain.job import Job, Stage, Status
from fleek.domain.media import Media
from fleek.schemas import Addresses
from fleek.schemas.read import media_name, seed_of

METADATA: Final = "fal"
"""What the facade notes of a request in its job's metadata: ``{"app": "owner/app"}``."""

FLAGGED: Final = "content_flagged"  # the code of a job whose content the provider refuses
QUEUED: Final = frozenset({Status.PENDING, Stage.STARTING, Stage.UNKNOWN})


def urls(job: Job, addresses: Addresses) -> dict[str, str]:
    """Return the addresses of a request, as clients call them."""
    here = f"{addresses.public}/fal-queue/{app_of(job)}/requests/{job.id}"
    return {
        "response_url": here,
        "status_url": f"{here}/status",
        "cancel_url": f"{here}/cancel",
    }


def app_of(job: Job) -> str:
    """Return the application that a request was sent to: owner and name, without a path."""
    noted = job.metadata.get(METADATA)
    if isinstance(noted, Mapping) and isinstance(noted.get("app"), str):
        return str(noted["app"])
    owner, _, name = job.model.partition(":")[0].partition("/")
    return f"{owner}/{name or owner}"


def status(
    job: Job, addresses: Addresses, *, position: int, logs: str | None = None
) -> dict[str, Any]:
    """Return the status of a request. `logs`: None, if they were not asked for."""
    shown: dict[str, Any] = {"request_id": str(job.id), **urls(job, addresses)}
    if job.state in QUEUED:
        return {"status": "IN_QUEUE", "queue_position": position, **shown}
    shown["logs"] = None if logs is None else _lines(job, logs)
    if not job.terminal:
        return {"status": "IN_PROGRESS", **shown}
    shown["metrics"] = {} if (seconds := _seconds(job)) is None else {"inference_time": seconds}
    if job.status is not Status.COMPLETED:
        shown["error"] = message_of(job)
        shown["error_type"] = error_type(job)
    return {"status": "COMPLETED", **shown}


def _seconds(job: Job) -> float | None:
    if job.started_at is None or job.completed_at is None:
        return None
    return (job.completed_at - job.started_at).total_seconds()


def _lines(job: Job, logs: str) -> list[dict[str, Any]]:
    at = job.updated_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    lines = (line.strip() for line in logs.splitlines())
    return [{"message": line, "level": "INFO", "timestamp": at} for line in lines if line]


def message_of(job: Job) -> str:
    """Return why a job has failed."""
    if job.status is Status.CANCELLED:
        return "Request was cancelled"
    return "Request failed" if job.error is None else job.error.message


def error_type(job: Job) -> str:
    """Return the stable name of the reason why a job has failed."""
    if job.status is Status.CANCELLED:
        return "request_cancelled"
    return "internal_server_error" if job.error is None else job.error.code


def failure(job: Job) -> tuple[int, dict[str, Any]]:
    """Return the response that a job which has failed is: never one that clients repeat."""
    kind, message = error_type(job), message_of(job)
    if kind == FLAGGED:
        detail = [{"loc": ["body", "prompt"], "msg": message, "type": "content_policy_violation"}]
        return 422, {"detail": detail, "error_type": kind}
    status = 400 if job.status is Status.CANCELLED else 500
    return status, {"detail": message, "error_type": kind}


def result(
    job: Job, media: Sequence[Media], addresses: Addresses, *, text: str | None = None
) -> dict[str, Any]:
    """Return what a completed job has made, as fal's models of its kind do."""
    files = [_file(each, addresses) for each in media]
    shown: dict[str, Any] = {"prompt": job.prompt, "seed": seed_of(job.input), "timings": {}}
    kind = media[0].content_type.partition("/")[0] if media else ""
    if kind == "image":
        shown |= {"images": files, "has_nsfw_concepts": [False] * len(files)}
        return shown | ({"image": files[0]} if len(files) == 1 else {})
    if kind in {"video", "audio"}:
        return shown | {kind: files[0]} | ({f"{kind}s": files} if len(files) > 1 else {})
    return shown | {"files": files} | ({} if text is None else {"output": text})


def _file(media: Media, addresses: Addresses) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "url": address_of(media, addresses),
        "content_type": media.content_type,
        "file_name": media_name(media),
        "file_size": media.size_bytes,
    }
    if media.width is not None:
        shown |= {"width": media.width, "height": media.height}
    if media.duration_seconds is not None:
        shown["duration"] = media.duration_seconds
    return shown
