"""Small pictures are made by a worker of their own accord, and lost ones when somebody looks."""

import io
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from service_process import Service, delay, running, until


def has_placeholder(service: Service, job_id: str) -> bool:
    """Whether the small pictures of a job's first file were made."""
    outputs = service.job(job_id)["outputs"]
    return bool(outputs and outputs[0]["placeholder"])


@pytest.mark.usefixtures("_full_suite")
def test_a_worker_makes_those_of_what_it_has_completed(tmp_path: Path) -> None:
    """Nobody has looked; a killed worker has made some of them, and the rest is made at the first look."""
    with running(tmp_path, **delay("0.01"), MAKE_THUMBNAILS="true") as service:
        server = service.serve()
        first = service.submit(parameters={"width": 400, "height": 200, "num_outputs": 2})
        until(lambda: has_placeholder(service, first), why=service.tails)
        others = [service.submit(f"job {n}", parameters={"width": 400}) for n in range(6)]
        service.settle(seconds=60)
        server.kill()
        service.serve(MAKE_THUMBNAILS="false")

        small = [shown(service, job_id) for job_id in (first, *others)]

        assert {one.width for one in small} == {320}
        assert all(has_placeholder(service, job_id) for job_id in others)


def shown(service: Service, job_id: str) -> Image.Image:
    """Return the small picture of a job's first file."""
    address = httpx2.URL(service.job(job_id)["outputs"][0]["thumbnails"]["320"])
    answer = service.http.get(address.raw_path.decode())
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))
