"""Logs of a job over HTTP: as text, and as a stream."""

from typing import Any

import httpx2
import pytest

from event_reader import EventReader
from fakes import a_request
from fleek.domain.job import Job, JobId
from fleek.domain.provider_logs import PredictionLog
from fleek.domain.transitions import cancel
from fleek.engine.apply import apply
from fleek.engine.purge import Retention, purge
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.store.updates import Update
from in_process_service import serving_on


async def show(rt: Runtime, job_id: JobId, text: str, *, attempt: int = 1) -> None:
    """Let a provider report a log."""
    await apply(rt, job_id, lambda *_: Update(log=PredictionLog(attempt, text)), event="progress")


async def end(rt: Runtime, job: Job) -> None:
    """Cancel a job."""
    await apply(
        rt, job.id, lambda found, _: Update(change=cancel(found, now=rt.now())), event="cancelled"
    )


async def test_the_logs_are_plain_text(rt: Runtime, client: httpx2.AsyncClient) -> None:
    """As printed by the model; a line marks the beginning of another attempt."""
    job = await submit(rt, a_request())
    await show(rt, job.id, "seed: 7\r\n 50%|██\r100%|████\n")
    await show(rt, job.id, "again\n", attempt=2)

    read = (await client.get(f"/api/v1/jobs/{job.id}")).json()
    answer = await client.get(read["links"]["logs"].removeprefix("http://127.0.0.1:8000"))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text == "seed: 7\r\n 50%|██\r100%|████\n[Fleek: attempt 2]\nagain\n"


async def test_a_job_without_logs_has_an_empty_text(
    rt: Runtime, client: httpx2.AsyncClient
) -> None:
    """Not all providers have logs, so this is no error."""
    job = await submit(rt, a_request())

    answer = await client.get(f"/api/v1/jobs/{job.id}/logs")

    assert (answer.status_code, answer.text) == (200, "")


async def test_a_truncated_log_is_marked(rt: Runtime, client: httpx2.AsyncClient) -> None:
    """The latest 256 KiB are kept."""
    job = await submit(rt, a_request())
    await show(rt, job.id, "x" * 300_000 + "the end\n")

    text = (await client.get(f"/api/v1/jobs/{job.id}/logs")).text

    assert text.startswith("[Fleek: only the last 256 KiB are kept]\nxxx")
    assert text.endswith("xxxthe end\n")


async def test_a_purge_removes_the_logs(rt: Runtime, client: httpx2.AsyncClient) -> None:
    """At once for callers, then from the database."""
    job = await submit(rt, a_request())
    await show(rt, job.id, "secret\n")
    await purge(rt, job.id, tenant_id="default")

    at_once = await client.get(f"/api/v1/jobs/{job.id}/logs")
    await Retention(rt).turn()
    afterwards = await client.get(f"/api/v1/jobs/{job.id}/logs", params={"follow": "true"})

    assert (at_once.status_code, at_once.json()["code"]) == (410, "gone")
    assert afterwards.status_code == 410
    async with rt.db.read() as tx:
        assert (await tx.exec_driver_sql("SELECT count(*) FROM job_logs")).scalar() == 0


async def test_a_log_is_followed_until_the_job_has_ended(rt: Runtime) -> None:
    """The stored text, then each addition, then the end."""
    job = await submit(rt, a_request())
    await show(rt, job.id, "one\r\n")

    async with (
        serving_on(rt) as service,
        EventReader(service.port, f"/api/v1/jobs/{job.id}/logs?follow=true") as stream,
    ):
        before = await stream.until("log")
        await show(rt, job.id, "one\r\ntwo\n")
        during = await stream.until("log")
        await show(rt, job.id, "three\n", attempt=2)
        await end(rt, job)
        after = await stream.rest()

    assert [(one.type, one.id) for one in [*before, *during, *after]] == [
        ("hello", None),
        ("log", "1"),
        ("log", "2"),
        ("log", "3"),
        ("done", None),
    ]
    assert before[1].data == {"attempt": 1, "text": "one\r\n"}
    assert after[0].data == {"attempt": 2, "text": "three\n"}


@pytest.mark.parametrize(("last", "expected"), [("1", ["2"]), ("99", [])])
async def test_a_stream_continues_after_the_last_event_id(
    rt: Runtime, last: str, expected: list[str]
) -> None:
    """Also after an invented one."""
    job = await submit(rt, a_request())
    await show(rt, job.id, "one\n")
    await show(rt, job.id, "one\ntwo\n")

    path = f"/api/v1/jobs/{job.id}/logs?follow=true"
    async with serving_on(rt) as service, EventReader(service.port, path, last=last) as stream:
        await stream.until("hello")
        await end(rt, job)
        received = await stream.rest()

    assert [one.id for one in received if one.type == "log"] == expected


async def test_a_complete_reader_of_an_ended_job_gets_a_204(
    rt: Runtime, client: httpx2.AsyncClient
) -> None:
    """Otherwise a browser would reconnect for ever."""
    job = await submit(rt, a_request())
    await show(rt, job.id, "one\n")
    await end(rt, job)

    answer = await client.get(
        f"/api/v1/jobs/{job.id}/logs", params={"follow": "true"}, headers={"Last-Event-ID": "1"}
    )

    assert answer.status_code == 204


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("0198f000-0000-7000-8000-000000000000/logs", 404, "not_found"),
        ("0198f000-0000-7000-8000-000000000000/logs?follow=true", 404, "not_found"),
        ("0198f000-0000-7000-8000-000000000000/logs?follow=1", 422, "invalid_input"),
        ("0198f000-0000-7000-8000-000000000000/logs?tail=5", 422, "invalid_input"),
    ],
)
async def test_an_invalid_request_is_refused(
    client: httpx2.AsyncClient, path: str, status: int, code: str
) -> None:
    """As on every route."""
    answer: Any = await client.get(f"/api/v1/jobs/{path}")

    assert (answer.status_code, answer.json()["code"]) == (status, code)
