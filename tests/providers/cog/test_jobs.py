"""Jobs on a real Cog server, with real processes of Fleek that are killed."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cogserver import CogServer
from service_process import Service, running, until

Run = Callable[..., AbstractContextManager[Service]]
Enough = Callable[[str], None]


def on_cog(folder: Path, server: CogServer, **settings: str) -> AbstractContextManager[Service]:
    """Run a service with this server as its provider, and with short waits."""
    quick = {"RETRY_BACKOFF_BASE": "0.2", "RETRY_BACKOFF_MAX": "0.5", "COG_CALLBACK_SECONDS": "1"}
    ours = {
        "PROVIDERS": "cog",
        "COG_URL": server.url,
        "HEARTBEAT_SECONDS": "5",  # the lease of a slow worker must not expire
        **quick,
    }
    return running(folder, **{**ours, **settings})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, one_slot: CogServer) -> Iterator[Service]:
    """Yield a running service for tests that kill nothing."""
    with on_cog(tmp_path_factory.mktemp("service"), one_slot) as service:
        service.serve()
        yield service


@pytest.fixture
def run(tmp_path: Path, cog: CogServer) -> Run:
    """Return a function that opens a service for one test."""

    @contextmanager
    def opened(**settings: str) -> Iterator[Service]:
        with on_cog(tmp_path, cog, **settings) as service:
            if settings.get("PUBLIC_URL") == "its own":
                service.env["PUBLIC_URL"] = f"http://127.0.0.1:{service.port}"
            yield service

    return opened


def await_run(service: Service, cog: CogServer, prompt: str) -> None:
    """Wait until the model runs for this prompt, and the prediction is bound."""
    bound = "SELECT 1 FROM attempts WHERE prediction_id IS NOT NULL AND verdict IS NULL"
    until(lambda: cog.runs(prompt) and service.rows(bound), why=service.tails)


def await_end(service: Service, job_id: str) -> dict[str, Any]:
    """Wait for the end of a job, and return it."""
    final = {"completed", "failed", "cancelled"}
    until(lambda: service.job(job_id)["status"] in final, why=service.tails)
    return service.job(job_id)


@pytest.mark.parametrize("shape", ["one", "large"])
def test_the_picture_is_stored_unchanged(
    shared: Service, cog: CogServer, prompt: str, shape: str
) -> None:
    """The database does not contain its bytes."""
    job_id = shared.submit(prompt, parameters={"shape": shape})

    job = await_end(shared, job_id)

    assert job["status"] == "completed", job
    content = shared.http.get(job["result_url"]).content
    assert hashlib.sha256(content).hexdigest() == cog.digests()[-1]
    stored = shared.rows("SELECT max(length(result)) FROM attempts")
    assert stored[0][0] < 10_000
    assert cog.runs(prompt) == 1


def test_a_failure_of_the_model_fails_the_job(shared: Service, cog: CogServer) -> None:
    """With the model's message, and without a retry."""
    before = cog.runs("fail")

    job = await_end(shared, shared.submit("fail"))

    assert job["status"] == "failed"
    assert "the model does not like this" in job["error_message"]
    assert cog.runs("fail") == before + 1


def test_cancelling_a_job_stops_the_model(shared: Service, cog: CogServer, prompt: str) -> None:
    """The server is free for the next one."""
    job_id = shared.submit(prompt, parameters={"seconds": 60})
    until(lambda: cog.runs(prompt), why=shared.tails)

    shared.http.post(f"/api/v1/jobs/{job_id}/cancel").raise_for_status()

    cog.rest()
    assert shared.job(job_id)["status"] == "cancelled"
    assert (cog.runs(prompt), cog.ended(prompt)) == (1, 1)


def test_jobs_wait_for_a_busy_server(
    shared: Service, cog: CogServer, prompt: str, enough: Enough
) -> None:
    """Cog has no queue. No prediction runs twice, and no attempt is used up."""
    deferred = "SELECT count(*) FROM events WHERE type = 'deferred'"
    before = shared.rows(deferred)
    ids = [shared.submit(f"{prompt} {n}", parameters={"seconds": 60}) for n in range(3)]
    until(lambda: shared.rows(deferred) != before, why=shared.tails)

    for number in range(3):
        enough(f"{prompt} {number}")
    jobs = [await_end(shared, job_id) for job_id in ids]

    assert [job["status"] for job in jobs] == ["completed"] * 3
    assert [cog.runs(f"{prompt} {n}") for n in range(3)] == [1] * 3


def test_a_killed_worker_never_leaves_two_runs(
    run: Run, cog: CogServer, prompt: str, enough: Enough
) -> None:
    """The server stops a run whose connection is closed; the job runs once more, and completes."""
    with run() as service:
        process = service.serve()
        job_id = service.submit(prompt, parameters={"seconds": 60})
        await_run(service, cog, prompt)

        process.kill()
        service.serve()
        until(lambda: cog.runs(prompt) == 2, why=service.tails)
        enough(prompt)

        job = await_end(service, job_id)
        assert job["status"] == "completed", service.tails()
    assert cog.runs(prompt) == cog.ended(prompt) == 2
    assert cog.most_at_once(prompt) == 1


@pytest.mark.parametrize("dead", ["while it runs", "beyond its end"])
def test_with_callbacks_a_kill_loses_nothing(
    run: Run, cog: CogServer, prompt: str, enough: Enough, dead: str
) -> None:
    """The run continues, and the server repeats its callback until it is accepted."""
    with run(PUBLIC_URL="its own", COG_CALLBACK_SECONDS="300") as service:
        process = service.serve()
        job_id = service.submit(prompt, parameters={"seconds": 60, "shape": "large"})
        await_run(service, cog, prompt)

        process.kill()
        if dead == "beyond its end":
            enough(prompt)
            until(partial(cog.ended, prompt), why=service.tails)
        service.serve()
        enough(prompt)

        job = await_end(service, job_id)
        assert job["status"] == "completed", service.tails()
        content = service.http.get(job["result_url"]).content
    assert hashlib.sha256(content).hexdigest() == cog.digests()[-1]
    assert cog.runs(prompt) == 1


def test_a_job_completes_although_its_callbacks_are_lost(
    run: Run, cog: CogServer, prompt: str
) -> None:
    """One more run is needed, with an open connection."""
    with run(PUBLIC_URL="http://127.0.0.1:1") as service:
        service.serve()

        job = await_end(service, service.submit(prompt))

        assert job["status"] == "completed", service.tails()
    assert cog.runs(prompt) == 2
    assert cog.most_at_once(prompt) == 1


def test_cog_can_be_one_of_several_providers(run: Run, cog: CogServer, prompt: str) -> None:
    """COG_URL alone enables it."""
    with run(PROVIDERS="", DEFAULT_MODEL="fleek/placeholder") as service:
        service.serve()

        job = await_end(service, service.submit(prompt, provider="cog"))

        assert (job["status"], job["model_name"]) == ("completed", "cog/model")
    assert cog.runs(prompt) == 1
