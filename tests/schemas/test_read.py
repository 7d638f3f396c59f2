"""Jobs in responses: the document that is sent, and the model that describes it."""

from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

import pytest

from fleek.domain.job import AttemptId, Job, JobError, JobId, Kind, ModelName, Stage, Status
from fleek.domain.media import Media, media_key
from fleek.domain.routing import Route, RouteOrder, RouteRequest, Routing, Tried
from fleek.schemas import Addresses, JobRead, job_json
from samples import NOON, a_job

ADDRESSES: Final = Addresses("https://fleek.example", "https://media.example")
EVERY_TEXT: Final = 'quotes "\\ and\u2028\x7f lines, ümläuts, \U0001f40b'
OTHER: Final = JobId(UUID(int=7))
ROUTING: Final = Routing(
    request=RouteRequest(
        models=("flux",),
        parameters={"a": 0.1},
        provider=None,
        order=RouteOrder.LISTED,
        strict=True,
    ),
    routes=(
        Route(provider="fake", model=ModelName("fake/model"), input={}, inputs=()),
        Route(provider="other", model=ModelName("m"), input={}, inputs=()),
    ),
    current=0,
    tried=(Tried(route=1, code="unavailable", message="gone", closed=True),),
)
JOBS: Final[dict[str, Job]] = {
    "pending": a_job(
        prompt=EVERY_TEXT, input={"a": [1, 1e300, None, {"b": True}], EVERY_TEXT: ""}
    ),
    "running": a_job(
        status=Status.PROCESSING, stage=Stage.WAITING, progress=0.1, started_at=NOON, attempt=1
    ),
    "postponed": a_job(
        status=Status.PROCESSING, stage=Stage.COLLECTING, error=JobError("full", EVERY_TEXT)
    ),
    "failed": a_job(status=Status.FAILED, error=JobError("code", "reason"), routing=ROUTING),
    "completed": a_job(
        status=Status.COMPLETED,
        started_at=NOON,
        completed_at=NOON + timedelta(seconds=1, microseconds=5),
        kind=Kind.IMAGE,
        cost=3000,
        max_cost=10**6,
        tags=("sea",),
        metadata={"album": 1},
        favourite=True,
        reused_from=OTHER,
        retry_of=OTHER,
    ),
}


@pytest.mark.parametrize("name", JOBS)
def test_the_document_is_that_of_the_model(name: str) -> None:
    """The model describes it to callers, and checks it nowhere else."""
    job = JOBS[name]
    key = media_key(job.id, AttemptId(OTHER), 0, sha256="0" * 64, extension="png")
    file = Media(
        job_id=job.id,
        attempt_id=AttemptId(OTHER),
        index=0,
        key=key,
        sha256="0" * 64,
        size_bytes=12,
        content_type="image/png",
        width=3,
    )
    media = (file, replace(file, index=1)) if job.status is Status.COMPLETED else ()

    sent = job_json(job, media, ADDRESSES, queue_position=3)

    described = JobRead.from_job(job, media, ADDRESSES, queue_position=3)
    assert sent == described.model_dump_json().encode()
    assert JobRead.model_validate_json(sent) == described
