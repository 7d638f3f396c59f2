"""Kill the process at random moments: every job still ends once, and is bought once."""

import random
import time

import pytest

from service_process import SMALL, Service, assert_each_once

JOBS = 20
KILLS = 3


@pytest.mark.parametrize("seed", range(2))
def test_every_job_survives_and_is_bought_once(service: Service, seed: int) -> None:
    """No acknowledged job is lost by a kill -9, and none is paid for twice."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    process = service.serve()
    accepted = [service.submit(f"job {number}", parameters=SMALL) for number in range(JOBS)]
    for _ in range(KILLS):
        time.sleep(chance.uniform(0, 0.6))  # the moment is the point of this test
        process.kill()
        process = service.serve()

    ended = service.settle(seconds=300)

    assert ended["completed"] == JOBS
    assert_each_once(service, accepted)


def test_the_files_of_completed_jobs_survive(service: Service) -> None:
    """What was shown to a caller is there after the power comes back."""
    process = service.serve()
    job_id = service.submit(parameters=SMALL)
    service.settle(seconds=300)
    before = service.http.get(service.job(job_id)["result_url"]).content

    process.kill()
    service.serve()

    assert service.http.get(service.job(job_id)["result_url"]).content == before
    assert before.startswith(b"\x89PNG")
