"""The voice itself, in a service."""

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from service_process import Service, running, until

LONG = "The lighthouse keeper climbs the stairs again. " * 30  # some seconds, loading included


@pytest.fixture
def service(_full_suite: None, tmp_path: Path) -> Generator[Service]:
    """Yield a running service with local speech."""
    pytest.importorskip("hibari")
    with running(tmp_path, PROVIDERS="local", RETRY_BACKOFF_BASE="0.1") as opened:
        opened.serve()
        until(lambda: opened.http.get("/livez").status_code == 200, why=opened.tails)
        yield opened


def submitted(service: Service, prompt: str, **parameters: Any) -> str:
    """Return the id of a new job."""
    body, key = {"prompt": prompt, "parameters": parameters}, {"Idempotency-Key": str(uuid4())}
    answers: list[Any] = []

    def accepted() -> bool:  # an overloaded machine refuses requests
        answers.append(service.http.post("/api/v1/generate", json=body, headers=key))
        return bool(answers[-1].status_code in (200, 201))

    until(accepted, why=service.tails)
    found: str = answers[-1].json()["id"]
    return found


def job_of(service: Service, job_id: str) -> dict[str, Any]:
    """Return a job."""
    found: dict[str, Any] = service.http.get(f"/api/v1/jobs/{job_id}").json()
    return found


def completed(service: Service, job_id: str) -> dict[str, Any]:
    """Return a job that has completed."""
    until(lambda: job_of(service, job_id)["status"] == "completed", seconds=240, why=service.tails)
    return job_of(service, job_id)


def content_of(service: Service, job: dict[str, Any]) -> bytes:
    """Return a job's file."""
    return service.http.get(job["result_url"]).content


def speakers(service: Service) -> list[int]:
    """Return the process ids of the children of a service that speak."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if b"synthesis.py" in command and int(parent) == service.processes[-1].pid:
                found.append(int(entry.name))
    return found


def test_a_text_is_spoken(service: Service) -> None:
    """As a WAV file of the same bytes for the same seed, with what it was made with."""
    jobs = [submitted(service, "Good morning.", seed=7) for _ in range(2)]

    first, second = [completed(service, job) for job in jobs]

    content = content_of(service, first)
    assert content[:4] == b"RIFF"
    assert b"ISFT" in content[:200]
    assert content == content_of(service, second)
    assert 0.5 < (len(content) - 200) / 48_000 < 3  # seconds


def test_a_killed_voice_speaks_again(service: Service) -> None:
    """The job has another attempt, and completes."""
    job_id = submitted(service, LONG)
    until(lambda: speakers(service), why=service.tails)

    os.kill(speakers(service)[0], signal.SIGKILL)
    job = completed(service, job_id)

    assert job["attempt"] == 2
    assert len(content_of(service, job)) > 1_000_000


def test_a_killed_service_speaks_again(service: Service) -> None:
    """And no process is left over."""
    job_id = submitted(service, LONG)
    until(lambda: speakers(service), why=service.tails)
    (speaker,) = speakers(service)

    service.processes[-1].kill()
    service.serve()
    job = completed(service, job_id)

    assert len(content_of(service, job)) > 1_000_000
    until(lambda: not Path(f"/proc/{speaker}").exists(), why=lambda: f"{speaker} still runs")
