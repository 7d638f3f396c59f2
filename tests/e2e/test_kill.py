"""Kill the process at random moments: every job still ends once, and is bought once."""

import random
import sqlite3
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from service import Service, running

JOBS = 20
KILLS = 3


@pytest.fixture
def service(tmp_path: Path) -> Generator[Service]:
    """Give a service whose predictions take half a second."""
    quick = {"REPLICATE_MOCK_DELAY_MIN": "0.5", "REPLICATE_MOCK_DELAY_MAX": "0.5"}
    with running(tmp_path, **quick) as opened:
        yield opened


def rows(service: Service, statement: str) -> list[tuple[object, ...]]:
    """Ask the database behind the service's back."""
    with sqlite3.connect(service.folder / "fleek.db") as connection:
        found: list[tuple[object, ...]] = connection.execute(statement).fetchall()
    connection.close()
    return found


@pytest.mark.parametrize("seed", range(4))
def test_every_job_survives_and_is_bought_once(service: Service, seed: int) -> None:
    """No acknowledged job is lost by a kill -9, and none is paid for twice."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    small = {"parameters": {"width": 32, "height": 32}}
    process = service.serve()
    accepted = [service.submit(f"job {number}", **small) for number in range(JOBS)]
    for _ in range(KILLS):
        time.sleep(chance.uniform(0, 0.6))  # the moment is the point of this test
        process.kill()
        process = service.serve()

    ended = service.settle(seconds=60)

    assert ended["completed"] == JOBS
    assert {service.job(job_id)["status"] for job_id in accepted} == {"completed"}
    bought = rows(
        service, "SELECT job_id, prediction_id FROM attempts WHERE verdict <> 'not_bought'"
    )
    assert len(bought) == len({job_id for job_id, _ in bought}) == JOBS
    assert len({prediction_id for _, prediction_id in bought} - {None}) == JOBS
    terminal = "SELECT count(*) FROM events WHERE type IN ('completed', 'failed', 'cancelled')"
    assert rows(service, terminal) == [(JOBS,)]


def test_the_files_of_completed_jobs_survive(service: Service) -> None:
    """What was shown to a caller is there after the power comes back."""
    process = service.serve()
    job_id = service.submit(parameters={"width": 32, "height": 32})
    service.settle(seconds=30)
    before = service.http.get(service.job(job_id)["result_url"]).content

    process.kill()
    service.serve()

    assert service.http.get(service.job(job_id)["result_url"]).content == before
    assert before.startswith(b"\x89PNG")
