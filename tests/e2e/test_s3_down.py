"""An outage of the bucket during collections: jobs wait, and are not paid for again."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from backing_services import Services
from fleek.app import create_app
from fleek.bootstrap import open_runtime
from fleek.engine.runtime import Runtime
from fleek.environment import read
from fleek.settings import Settings
from fleek.worker import work
from s3server import OwnS3, own_s3
from service_process import SMALL

PATIENCE_SECONDS = 120
JOBS = 3


@pytest.fixture
def server(_full_suite: None, services: Services) -> Iterator[OwnS3]:
    """Return an S3 server that may be stopped."""
    with own_s3(services) as started:
        yield started


@pytest.fixture
async def rt(
    database_url: str, server: OwnS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Runtime]:
    """Return a runtime that stores files there, with a running worker."""
    environment = {
        **server.settings(server.make_bucket(), tmp_path),
        "S3_TIMEOUT": "5",
        "REPLICATE_MOCK_DELAY_MIN": "0.3",
        "REPLICATE_MOCK_DELAY_MAX": "0.3",
        "RETRY_BACKOFF_MAX": "0.2",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with open_runtime(read(Settings, database_url=database_url)) as opened:
        stop = asyncio.Event()
        working = asyncio.create_task(work(opened, stop))
        yield opened
        stop.set()
        await working


@pytest.fixture
async def http(rt: Runtime) -> AsyncGenerator[httpx2.AsyncClient]:
    """Return a client of the service."""
    transport = httpx2.ASGITransport(create_app(rt))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def until(met: Callable[[], Awaitable[Any]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await met():
            await asyncio.sleep(0.05)


async def count(rt: Runtime, query: str) -> int:
    """Return the number that a query returns."""
    async with rt.db.read() as tx:
        return int(await tx.scalar(text(query)))


async def all_completed(http: httpx2.AsyncClient, ids: list[str]) -> bool:
    """Whether all jobs have completed."""
    found = [(await http.get(f"/api/v1/jobs/{one}")).json()["status"] for one in ids]
    return found == ["completed"] * len(ids)


@pytest.mark.parametrize(
    ("leave", "come_back"),
    [(OwnS3.kill, OwnS3.start), (OwnS3.freeze, OwnS3.thaw)],
    ids=["killed", "frozen"],
)
async def test_jobs_wait_for_the_bucket(
    rt: Runtime,
    http: httpx2.AsyncClient,
    server: OwnS3,
    leave: Callable[[OwnS3], None],
    come_back: Callable[[OwnS3], None],
) -> None:
    """Paid results are collected when the bucket is back, without any action."""
    await asyncio.to_thread(leave, server)
    answers = [
        await http.post("/api/v1/generate", json={"prompt": "a storm", "parameters": SMALL})
        for _ in range(JOBS)
    ]
    ids = [answer.json()["id"] for answer in answers]

    waiting = "SELECT count(DISTINCT job_id) FROM events WHERE type = 'postponed'"
    await until(lambda: _is(JOBS, rt, waiting))
    health: dict[str, Any] = {}

    async def degraded() -> bool:
        health.update((await http.get("/health/detailed")).json())
        return bool(health["status"] == "degraded")

    await until(degraded)
    collecting = await count(rt, "SELECT count(*) FROM jobs WHERE stage = 'collecting'")
    await asyncio.to_thread(come_back, server)
    await until(lambda: all_completed(http, ids))

    assert [answer.status_code for answer in answers] == [201] * JOBS
    assert collecting == JOBS
    assert health["checks"]["storage"]["status"] == "unhealthy"
    assert await count(rt, "SELECT count(*) FROM attempts") == JOBS
    assert await count(rt, "SELECT max(attempt) FROM jobs") == 1
    for job_id in ids:
        job = (await http.get(f"/api/v1/jobs/{job_id}")).json()
        kept = await http.get(f"/api/v1/download/{job_id}")
        assert hashlib.sha256(kept.content).hexdigest() == job["outputs"][0]["sha256"]


async def _is(expected: int, rt: Runtime, query: str) -> bool:
    return await count(rt, query) == expected
