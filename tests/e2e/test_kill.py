"""Kills at random moments: every job still ends once, and is paid for once."""

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx2
import pytest

from service_process import SMALL, Service, assert_each_once

JOBS = 12
KILLS = 3
LATER: Final = (datetime.now(UTC) + timedelta(days=30)).isoformat()
ATTEMPTS: Final = "SELECT count(*) FROM attempts"
MEMBERS: Final = "SELECT count(*), count(DISTINCT prompt), count(DISTINCT batch_id) FROM jobs"


def test_every_job_survives_and_is_paid_for_once(service: Service) -> None:
    """No acknowledged job is lost by a kill -9, and no prediction is created twice."""
    chance = random.Random(0)  # noqa: S311 - repeatable, not secret
    process = service.serve()
    accepted = [service.submit(f"job {number}", parameters=SMALL) for number in range(JOBS)]
    for _ in range(KILLS):
        time.sleep(chance.uniform(0, 0.6))  # random moments are the point of this test
        process.kill()
        process = service.serve()

    ended = service.settle(seconds=300)

    assert ended["completed"] == JOBS
    assert_each_once(service, accepted)


def test_the_files_of_completed_jobs_survive(service: Service) -> None:
    """Files of a job shown as completed exist after a power failure."""
    process = service.serve()
    job_id = service.submit(parameters=SMALL)
    service.settle(seconds=300)
    before = service.http.get(service.job(job_id)["result_url"]).content

    process.kill()
    service.serve()

    assert service.http.get(service.job(job_id)["result_url"]).content == before
    assert before.startswith(b"\x89PNG")


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize(  # each pair of these three
    ("fixture", "moment", "is_retry"),
    [
        ("service", "submitted.write", False),
        ("service", "submitted.written", True),
        ("on_postgres", "submitted.write", True),
        ("on_postgres", "submitted.written", False),
    ],
)
def test_a_request_without_a_response_is_repeated_with_its_key(
    request: pytest.FixtureRequest, fixture: str, moment: str, *, is_retry: bool
) -> None:
    """Killed before or after the commit, the result is one job, paid for once."""
    service: Service = request.getfixturevalue(fixture)
    path = "/api/v1/generate"
    body: Any = {"prompt": "a cat", "parameters": SMALL}
    if is_retry:
        before = service.serve()
        path, body = f"/api/v1/jobs/{_cancelled(service)}/retry?again=true", None
        before.stop()
    service.serve("--no-worker", FLEEK_FAILPOINTS=f"{moment}=kill")

    def post() -> httpx2.Response:
        return service.http.post(path, json=body, headers={"Idempotency-Key": "order-17"})

    with pytest.raises(httpx2.TransportError):
        post()
    service.processes[-1].wait()
    busy = {"HEARTBEAT_SECONDS": "5", "MAX_WRITE_WAIT_SECONDS": "120"}  # a machine may be
    service.serve(**busy)
    first, second = post(), post()
    ended = service.settle(seconds=300)

    assert first.status_code == second.status_code == 201
    assert first.json()["id"] == second.json()["id"]
    assert ("idempotent-replayed" in first.headers) == (moment == "submitted.written")
    assert ended["completed"] == 1
    assert service.rows(ATTEMPTS) == [(1,)]


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize(
    ("fixture", "moment"),
    [
        ("service", "batch.created"),
        ("service", "batch.written@2"),
        ("on_postgres", "batch.write@2"),
    ],
)
def test_an_interrupted_batch_is_continued_by_its_key(
    request: pytest.FixtureRequest, fixture: str, moment: str
) -> None:
    """Killed in the middle, then repeated: the same batch, and each member once, paid for once."""
    service: Service = request.getfixturevalue(fixture)
    members = [{"prompt": f"Cat {number}", "parameters": SMALL} for number in range(150)]
    name, _, hit = moment.partition("@")
    service.serve("--no-worker", FLEEK_FAILPOINTS=f"{name}=kill@{hit or 1}")

    def post() -> httpx2.Response:
        body, headers = {"requests": members}, {"Idempotency-Key": "cats-1"}
        return service.http.post("/api/v1/batches", json=body, headers=headers)

    with pytest.raises(httpx2.TransportError):
        post()
    service.processes[-1].wait()
    service.serve("--no-worker")
    first, second = post(), post()

    assert first.status_code == second.status_code == 201
    assert first.json()["id"] == second.json()["id"]
    assert first.headers["idempotent-replayed"] == "true"
    assert (first.json()["accepted"], first.json()["counts"]["pending"]) == (150, 150)
    assert service.rows(MEMBERS) == [(150, 150, 1)]


def _cancelled(service: Service) -> str:
    """Return a job cancelled before its start."""
    job_id = service.submit(run_at=LATER, parameters=SMALL)
    assert service.http.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 200
    return job_id
