"""Sample values for a store: a job, an attempt, a worker; equal unless fields are given."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from uuid_utils.compat import uuid4, uuid7

from fleek.domain.attempt import Attempt
from fleek.domain.job import AttemptId, Change, Job, JobId, ModelName, PredictionId, WorkerId
from fleek.domain.media import Key, Media, media_key
from fleek.domain.transitions import claim, complete, mark_predicted, mark_waiting
from fleek.domain.uploads import Upload, UploadId
from fleek.store.updates import Decision, Intent, Update
from fleek.store.workers import Worker

NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
WORKER: Final = WorkerId(uuid7())


def a_job(**fields: Any) -> Job:
    """Return a job that was accepted at noon and is due at once."""
    job = Job(
        id=JobId(uuid7()),
        tenant_id="default",
        provider="fake",
        model=ModelName("fake/model"),
        prompt="A cat riding a bicycle",
        input={"seed": 7},
        metadata={},
        priority=5,
        max_attempts=3,
        run_at=NOON,
        deadline=NOON + timedelta(hours=24),
        deadline_after=timedelta(hours=24),
        created_at=NOON,
        updated_at=NOON,
    )
    return replace(job, **fields)


def an_attempt(job: Job, **fields: Any) -> Attempt:
    """Return an intent for this job."""
    attempt = Attempt(
        id=job.attempt_id or AttemptId(uuid4()),
        job_id=job.id,
        number=job.ordinal or 1,
        provider=job.provider,
        model=job.model,
        nonce="0" * 32,
        request_hash="0" * 64,
        submitted_at=NOON,
        timeout=timedelta(hours=1),
        worker_id=job.worker_id or WORKER,
    )
    return replace(attempt, **fields)


def a_file(job: Job, index: int = 0, **fields: Any) -> Media:
    """Return a stored file of this job's latest attempt."""
    assert job.attempt_id is not None
    media = Media(
        job_id=job.id,
        attempt_id=job.attempt_id,
        index=index,
        key=media_key(job.id, job.attempt_id, index, sha256="a" * 64, extension="png"),
        sha256="a" * 64,
        size_bytes=2**40,
        content_type="image/png",
    )
    return replace(media, **fields)


def a_worker(**fields: Any) -> Worker:
    """Return a worker with a heartbeat at noon."""
    worker = Worker(
        id=WorkerId(uuid7()),
        host="here",
        pid=1,
        version="1",
        slots=4,
        started_at=NOON,
        heartbeat_at=NOON,
    )
    return replace(worker, **fields)


def claims(worker_id: WorkerId = WORKER, *, now: datetime = NOON) -> Decision[Intent]:
    """Return a decision that claims a pending job and records an intent."""

    def decide(job: Job, _: Attempt | None) -> Intent:
        change = claim(job, worker_id, AttemptId(uuid4()), now=now)
        return Intent(change=change, intent=an_attempt(change.job))

    return decide


def binds(prediction_id: str, *, now: datetime = NOON) -> Decision[Update]:
    """Return a decision that binds a prediction to the given attempt."""

    def decide(job: Job, current: Attempt | None) -> Update:
        assert current is not None
        prediction = PredictionId(prediction_id)
        bound = replace(current, prediction_id=prediction, first_look_at=now)
        return Update(change=mark_waiting(job, prediction, now=now), attempt=bound)

    return decide


def predicted(job: Job, _: Attempt | None) -> Update:
    """Decide that the prediction has succeeded."""
    return Update(change=mark_predicted(job, now=NOON))


def completes(files: int = 1) -> Any:
    """Return a decision that completes a job with this many files."""

    def decide(job: Job, _: Attempt | None) -> Update:
        change = complete(job, now=NOON, outputs=files)
        return Update(change=change, media=[a_file(job, index) for index in range(files)])

    return decide


def changes(change: Change) -> Any:
    """Return a decision with a given change."""
    return lambda _job, _attempt: Update(change=change)


def an_upload(**fields: Any) -> Upload:
    """Return an upload whose file is not stored yet."""
    upload = Upload(
        id=UploadId(uuid7()),
        tenant_id="default",
        key=Key("uploads/x.png"),
        sha256="5" * 64,
        size_bytes=70,
        content_type="image/png",
        created_at=NOON,
        expires_at=NOON + timedelta(hours=24),
    )
    return replace(upload, **fields)
