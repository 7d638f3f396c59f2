"""The metadata document of a completed job, and what its history keeps of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from fleek import failpoints, strict
from fleek.domain.attempt import Attempt
from fleek.domain.errors import SigningFailed
from fleek.domain.job import Job
from fleek.domain.media import Media, metadata_key
from fleek.engine.moderation import FLAGGED
from fleek.engine.provenance import SIGNED
from fleek.engine.runtime import Runtime
from fleek.store.events import Event


async def save_document(
    rt: Runtime,
    job: Job,
    made: Sequence[Attempt],
    media: Sequence[Media],
    *,
    withheld: Mapping[int, str],
    signed: Mapping[int, str],
) -> None:
    """Store a completed job's metadata document beside its media, and what was withheld or signed.

    `made`: its attempts.

    Raises:
        HostError: It cannot be kept now.
    """
    written = document(job, media, made)
    if withheld:
        rows = withheld.items()
        written["withheld"] = [{"index": n, "code": FLAGGED, "reason": why} for n, why in rows]
    for entry in written["outputs"]:
        if entry["index"] in signed:
            entry["c2pa"] = signed[entry["index"]]
    failpoints.hit("document.made")
    content = strict.dumps(written)
    await rt.storage.save(metadata_key(job.id), content, content_type="application/json")


def document(job: Job, media: Sequence[Media], made: Sequence[Attempt] = ()) -> dict[str, Any]:
    """Return the metadata document as ``docs/reference/api.md`` describes it."""
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
        **({} if job.reused_from is None else {"reused_from": str(job.reused_from)}),
        "metrics": metrics,
        "outputs": [_output_entry(file) for file in media],
        "attempts": [_attempt_entry(attempt) for attempt in made],
    }


def _output_entry(media: Media) -> dict[str, Any]:
    return {
        "index": media.index,
        "sha256": media.sha256,
        "size_bytes": media.size_bytes,
        "content_type": media.content_type,
        "width": media.width,
        "height": media.height,
        "duration_seconds": media.duration_seconds,
    }


def _attempt_entry(attempt: Attempt) -> dict[str, Any]:
    return {
        "n": attempt.number,
        "prediction_id": attempt.prediction_id,
        "submitted_at": attempt.submitted_at.isoformat(),
        "verdict": attempt.verdict,
        "error": attempt.error and {"code": attempt.error.code, "message": attempt.error.message},
        **({} if attempt.inputs is None else {"inputs": attempt.inputs}),
    }


def notes_of(withheld: Mapping[int, str], signed: Mapping[int, str]) -> Mapping[str, Any]:
    """Return what the history keeps of a job's outputs: the document may have to be written anew.

    What could not be signed stands there as an error, too, as callers and operators look for it.
    """
    unsigned = {index: note for index, note in signed.items() if note != SIGNED}
    notes: dict[str, Any] = {}
    if unsigned:
        first = min(unsigned)
        message = f"{len(unsigned)} of {len(signed)} outputs not signed: {unsigned[first]}"
        notes |= {"code": SigningFailed.code, "message": message}
    for name, rows in (("withheld", withheld), ("c2pa", signed)):
        if rows:
            notes[name] = {str(index): note for index, note in rows.items()}
    return notes


def noted(lines: Sequence[Event], name: str) -> Mapping[int, str]:
    """Return what `notes_of` has kept in a history, by the index of the output."""
    for line in reversed(lines):
        if line.type == "completed":
            return {int(index): note for index, note in line.data.get(name, {}).items()}
    return {}
