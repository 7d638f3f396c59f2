"""Between rows and values."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.job import (
    AttemptId,
    Change,
    Job,
    JobError,
    JobId,
    ModelName,
    PredictionId,
    Stage,
    Status,
    WorkerId,
)
from fleek.domain.media import Key, Media
from fleek.domain.text import strip_unstorable

Values = dict[str, Any]
T = TypeVar("T", bound=UUID)


def padded(ids: Sequence[T]) -> Sequence[T]:
    """Repeat the last id until their number is a power of two.

    So ``IN`` has a dozen forms instead of hundreds, and each stays prepared.
    """
    size = 1 << max(len(ids) - 1, 0).bit_length()
    return [*ids, *[ids[-1]] * (size - len(ids))]


def job_values(job: Job) -> Values:
    """Return every column of a job."""
    return {
        "id": job.id,
        "tenant_id": job.tenant_id,
        "provider": job.provider,
        "model": job.model,
        "prompt": job.prompt,
        "input": job.input,
        "metadata": job.metadata,
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "deadline": job.deadline,
        "created_at": job.created_at,
        "retry_of": job.retry_of,
        **job_changes(job),
    }


def job_changes(job: Job) -> Values:
    """Return the columns of a job that may change after its acceptance."""
    return {
        "run_at": job.run_at,
        "updated_at": job.updated_at,
        "status": job.status.value,
        "stage": job.stage and job.stage.value,
        "attempt": job.attempt,
        "retries": job.retries,
        "deferrals": job.deferrals,
        "crashes": job.crashes,
        "collects": job.collects,
        "worker_id": job.worker_id,
        "attempt_id": job.attempt_id,
        "prediction_id": job.prediction_id,
        "progress": job.progress,
        "error_code": job.error and job.error.code,
        "error_message": job.error and strip_unstorable(job.error.message),
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "purged_at": job.purged_at,
        "metadata_purged_at": job.metadata_purged_at,
        "purging": job.purging,
        "version": job.version,
    }


def job_from(row: Mapping[Any, Any]) -> Job:
    """Read a job from its row."""
    return Job(
        id=JobId(row["id"]),
        tenant_id=row["tenant_id"],
        provider=row["provider"],
        model=ModelName(row["model"]),
        prompt=row["prompt"],
        input=row["input"],
        metadata=row["metadata"],
        priority=row["priority"],
        max_attempts=row["max_attempts"],
        run_at=row["run_at"],
        deadline=row["deadline"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        retry_of=_maybe(JobId, row["retry_of"]),
        status=Status(row["status"]),
        stage=None if row["stage"] is None else Stage(row["stage"]),
        attempt=row["attempt"],
        retries=row["retries"],
        deferrals=row["deferrals"],
        crashes=row["crashes"],
        collects=row["collects"],
        worker_id=_maybe(WorkerId, row["worker_id"]),
        attempt_id=_maybe(AttemptId, row["attempt_id"]),
        prediction_id=_maybe(PredictionId, row["prediction_id"]),
        progress=row["progress"],
        error=_error(row),
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        purged_at=row["purged_at"],
        metadata_purged_at=row["metadata_purged_at"],
        purging=row["purging"],
        version=row["version"],
    )


def attempt_values(attempt: Attempt) -> Values:
    """Return every column of an attempt."""
    return {
        "id": attempt.id,
        "job_id": attempt.job_id,
        "n": attempt.n,
        "provider": attempt.provider,
        "model": attempt.model,
        "nonce": attempt.nonce,
        "request_hash": attempt.request_hash,
        "submitted_at": attempt.submitted_at,
        "provider_time": attempt.provider_time,
        "timeout_seconds": attempt.timeout.total_seconds(),
        "worker_id": attempt.worker_id,
        **attempt_changes(attempt),
    }


def attempt_changes(attempt: Attempt) -> Values:
    """Return the columns of an attempt that may change after its intent."""
    return {
        "prediction_id": attempt.prediction_id,
        "first_look_at": attempt.first_look_at,
        "result": attempt.result,
        "verdict": attempt.verdict and attempt.verdict.value,
        "error_code": attempt.error and attempt.error.code,
        "error_message": attempt.error and strip_unstorable(attempt.error.message),
        "empty_looks": attempt.empty_looks,
        "looked_at": attempt.looked_at,
        "cancel_owed": attempt.cancel_owed,
        "metrics": attempt.metrics,
    }


def attempt_from(row: Mapping[Any, Any]) -> Attempt:
    """Read an attempt from its row."""
    return Attempt(
        id=AttemptId(row["id"]),
        job_id=JobId(row["job_id"]),
        n=row["n"],
        provider=row["provider"],
        model=ModelName(row["model"]),
        nonce=row["nonce"],
        request_hash=row["request_hash"],
        submitted_at=row["submitted_at"],
        provider_time=row["provider_time"],
        timeout=timedelta(seconds=row["timeout_seconds"]),
        worker_id=WorkerId(row["worker_id"]),
        prediction_id=_maybe(PredictionId, row["prediction_id"]),
        first_look_at=row["first_look_at"],
        result=row["result"],
        verdict=None if row["verdict"] is None else Verdict(row["verdict"]),
        error=_error(row),
        empty_looks=row["empty_looks"],
        looked_at=row["looked_at"],
        cancel_owed=row["cancel_owed"],
        metrics=row["metrics"],
    )


def event_values(change: Change, *, seq: int, at: datetime) -> Values:
    """Return the row of a change's line in the job's history."""
    return {
        "job_id": change.job.id,
        "seq": seq,
        "type": change.event,
        "data": {
            key: strip_unstorable(value) if isinstance(value, str) else value
            for key, value in change.data.items()
        },
        "at": at,
    }


def media_values(media: Media) -> Values:
    """Return every column of a stored file."""
    return {
        "job_id": media.job_id,
        "attempt_id": media.attempt_id,
        "index": media.index,
        "key": media.key,
        "sha256": media.sha256,
        "size_bytes": media.size_bytes,
        "content_type": media.content_type,
        "width": media.width,
        "height": media.height,
        "duration_seconds": media.duration_seconds,
    }


def media_from(row: Mapping[Any, Any]) -> Media:
    """Read a stored file from its row."""
    values = {**row}
    return Media(**{**values, "key": Key(values["key"])})


def _error(row: Mapping[Any, Any]) -> JobError | None:
    code = row["error_code"]
    return None if code is None else JobError(code=code, message=row["error_message"])


def _maybe(kind: Any, value: Any) -> Any:
    return None if value is None else kind(value)
