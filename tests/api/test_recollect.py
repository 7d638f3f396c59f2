"""Collecting again over HTTP, and what callers and operators see of waiting results."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from uuid_utils.compat import uuid4, uuid7

from fleek.doctor import _work
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.job import AttemptId, Change, Job, JobError, Stage, Status, WorkerId
from fleek.engine.runtime import Runtime
from fleek.store import events
from fleek.store.updates import Intent, apply

Make = Callable[..., Coroutine[Any, Any, Job]]
REFUSED = JobError("unsafe_output", "its host is not allowed")
AWAY = JobError("storage_unavailable", "cannot save it: Read-only file system")


async def with_a_paid_result(
    rt: Runtime, job: Job, result: dict[str, Any] | None, **changes: Any
) -> Job:
    """Give a job an attempt with a successful prediction, and a state."""
    attempt = Attempt(
        id=AttemptId(uuid7()),
        job_id=job.id,
        number=1,
        provider=job.provider,
        model=job.model,
        nonce=uuid4().hex,
        request_hash="0" * 64,
        submitted_at=rt.now(),
        timeout=timedelta(hours=1),
        worker_id=WorkerId(uuid4()),
        verdict=Verdict.SUCCEEDED,
        result=result,
    )
    after = replace(job, attempt=1, attempt_id=attempt.id, updated_at=rt.now(), **changes)
    arranged = Intent(change=Change(after, "arranged"), intent=attempt)
    await apply(rt.db, job.id, lambda *_: arranged)
    return after


FAILED = {"status": Status.FAILED, "error": REFUSED}
KEPT: dict[str, Any] = {"outputs": [{"uri": "x"}]}


async def test_a_paid_result_is_collected_again(
    rt: Runtime, client: httpx2.AsyncClient, make: Make
) -> None:
    """Several requests leave one event in the history."""
    job = await with_a_paid_result(rt, await make(), KEPT, completed_at=rt.now(), **FAILED)
    route = f"/api/v1/jobs/{job.id}/collect"

    answers = await asyncio.gather(*(client.post(route) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200}
    shown = answers[0].json()
    assert (shown["status"], shown["error_code"], shown["completed_at"]) == (
        "processing",
        None,
        None,
    )
    history = [event.type for event in await events.of_job(rt.db, job.id)]
    assert history.count("recollecting") == 1


async def test_a_completed_job_is_returned_unchanged(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """Its result exists, so there is nothing to do."""
    job = await complete()

    answer = await client.post(f"/api/v1/jobs/{job.id}/collect")

    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert answer.json()["outputs"]


@pytest.mark.parametrize(
    ("kind", "refusal"),
    [
        ("pending", (409, "nothing_to_collect")),
        ("failed", (409, "nothing_to_collect")),
        ("removed", (410, "gone")),
        ("unknown", (404, "not_found")),
        ("no id", (422, "invalid_input")),
    ],
)
async def test_a_job_that_cannot_be_collected_gets_the_reason(
    rt: Runtime, client: httpx2.AsyncClient, make: Make, kind: str, refusal: tuple[int, str]
) -> None:
    """A problem document, and the job is unchanged."""
    job = await make(Status.FAILED if kind == "failed" else Status.PENDING)
    if kind == "removed":
        await with_a_paid_result(rt, job, None, completed_at=rt.now(), **FAILED)
    named = {"unknown": str(uuid7()), "no id": "x"}.get(kind, str(job.id))

    answer = await client.post(f"/api/v1/jobs/{named}/collect")

    assert (answer.status_code, answer.json()["code"]) == refusal


async def test_a_job_shows_why_its_result_waits(
    rt: Runtime, client: httpx2.AsyncClient, make: Make
) -> None:
    """With the time of the next try; before any failure it shows nothing."""
    well = await make()
    next_at = rt.now() + timedelta(seconds=30)
    waits = {"status": Status.PROCESSING, "stage": Stage.COLLECTING, "collects": 2}
    job = await with_a_paid_result(rt, await make(), KEPT, error=AWAY, run_at=next_at, **waits)

    shown = (await client.get(f"/api/v1/jobs/{job.id}")).json()

    assert shown["retrying"]["code"] == "storage_unavailable"
    assert shown["retrying"]["reason"] == AWAY.message
    assert shown["retrying"]["next_at"].startswith(f"{next_at:%Y-%m-%dT%H:%M:%S}")
    assert (shown["error_code"], shown["error_message"]) == (None, None)
    assert (await client.get(f"/api/v1/jobs/{well.id}")).json()["retrying"] is None


async def test_operators_see_waiting_results(
    rt: Runtime, client: httpx2.AsyncClient, make: Make
) -> None:
    """In health, metrics and `doctor`, with the remedy."""
    waits = {"status": Status.PROCESSING, "stage": Stage.COLLECTING, "collects": 2}
    await with_a_paid_result(rt, await make(), KEPT, error=AWAY, **waits)

    found = (await client.get("/health/detailed")).json()
    figures = (await client.get("/metrics", headers={"Accept": "text/plain"})).text
    diagnosed = {one.subject: one for one in await _work(rt.db, rt.settings)}["results"]

    check = found["checks"]["results"]
    assert (found["status"], check["status"]) == ("degraded", "unhealthy")
    assert check["message"] == diagnosed.message
    assert "1 for storage_unavailable" in check["message"]
    assert "STORAGE_PATH" in check["advice"]
    assert 'fleek_results_waiting{code="storage_unavailable"} 1.0' in figures
    assert diagnosed.status == "error"


async def test_doctor_reports_paid_results_refused_by_a_setting(rt: Runtime, make: Make) -> None:
    """With the setting and the command that collects them."""
    await make(Status.FAILED, error=REFUSED, completed_at=rt.now())

    (found,) = [one for one in await _work(rt.db, rt.settings) if "refused" in one.message]

    assert REFUSED.message in found.message
    assert "fleek collect" in found.advice
