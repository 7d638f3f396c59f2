"""A completed job's metadata, as a JSON document that may outlive the media or go before it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from fleek import failpoints, strict
from fleek.domain.attempt import Attempt
from fleek.domain.job import Job
from fleek.domain.media import Media, metadata_key
from fleek.engine.runtime import Runtime
from fleek.engine.spool import spool_file


def metadata_document(job: Job, media: Sequence[Media], made: Sequence[Attempt]) -> dict[str, Any]:
    """Return a completed job's metadata document.

    Source: the contract in ``docs/reference/api.md``, section "Metadata document".
    """
    metrics = next((dict(one.metrics or {}) for one in made if one.id == job.attempt_id), {})
    seed = metrics.get("seed", job.input.get("seed"))
    return {
        **job.input,
        "prompt": job.prompt,
        "model_name": job.model,
        "provider": job.provider,
        "external_job_id": job.prediction_id,
        "created_at": job.created_at.isoformat(),
        "completed_at": job.completed_at and job.completed_at.isoformat(),
        **({} if seed is None else {"seed": seed}),
        "metrics": metrics,
        "outputs": [_described(one) for one in media],
        "attempts": [_summed_up(one) for one in made],
    }


def _described(media: Media) -> dict[str, Any]:
    return {
        "index": media.index,
        "sha256": media.sha256,
        "size_bytes": media.size_bytes,
        "content_type": media.content_type,
        "width": media.width,
        "height": media.height,
        "duration_seconds": media.duration_seconds,
    }


def _summed_up(attempt: Attempt) -> dict[str, Any]:
    return {
        "n": attempt.n,
        "prediction_id": attempt.prediction_id,
        "submitted_at": attempt.submitted_at.isoformat(),
        "verdict": attempt.verdict,
        "error": attempt.error and {"code": attempt.error.code, "message": attempt.error.message},
    }


async def save_document(rt: Runtime, job: Job, content: dict[str, Any]) -> None:
    """Store a job's metadata document beside its media.

    Raises:
        HostError: It cannot be kept now.
    """
    async with spool_file(rt, f"{job.attempt_id}-document") as spooled:
        await asyncio.to_thread(spooled.write_bytes, strict.dumps(content))
        failpoints.hit("document.spooled")
        await rt.storage.save(metadata_key(job.id), spooled, content_type="application/json")
