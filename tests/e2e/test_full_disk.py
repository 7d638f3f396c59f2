"""A full disk: new jobs are refused, jobs in flight survive, and the service recovers by itself."""

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from fleek.app import create_app
from fleek.bootstrap import open_runtime
from fleek.domain.job import PredictionId
from fleek.engine.capacity import StorageCapacity
from fleek.engine.runtime import Runtime
from fleek.environment import read
from fleek.providers.base import Prediction, Provider
from fleek.settings import Settings
from fleek.storage.local import LocalStorage
from fleek.storage.local.tree import MIN_FREE_BYTES, Disk, Tree
from fleek.worker import work
from service_process import SMALL

PATIENCE_SECONDS = 120


class FakeDisk:
    """A disk with the space that the test sets, for written files and for the free bytes."""

    def __init__(self) -> None:
        self.full = False

    def free_bytes(self, _: Path) -> int:
        """Return the free bytes."""
        return 0 if self.full else 2 * MIN_FREE_BYTES

    def fsync(self, fd: int) -> None:
        """Succeed if there is space."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)


class Gate:
    """A provider whose predictions end only when the test allows it."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.closed = True

    def __getattr__(self, name: str) -> Any:
        """Forward to the provider."""
        return getattr(self._provider, name)

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Report running predictions."""
        if self.closed:
            return {one: Prediction(id=one) for one in ids}
        return await self._provider.poll(ids)


@pytest.fixture
def disk() -> FakeDisk:
    """Return the disk of the storage."""
    return FakeDisk()


@pytest.fixture
async def rt(
    database_url: str, disk: FakeDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Runtime]:
    """Return a runtime on that disk with a running worker and gated predictions."""
    for name in ("REPLICATE_MOCK_DELAY_MIN", "REPLICATE_MOCK_DELAY_MAX"):
        monkeypatch.setenv(name, "0.01")
    monkeypatch.setenv("RETRY_BACKOFF_MAX", "0.2")
    async with open_runtime(read(Settings, database_url=database_url)) as opened:
        tree = Tree(tmp_path / "storage", disk=Disk(free_bytes=disk.free_bytes, fsync=disk.fsync))
        storage = LocalStorage(tree)
        gate: Any = Gate(opened.providers["placeholder"])
        rt = replace(
            opened,
            storage=storage,
            capacity=StorageCapacity(storage, look_seconds=0),
            providers={"placeholder": gate},
        )
        stop = asyncio.Event()
        working = asyncio.create_task(work(rt, stop))
        yield rt
        stop.set()
        await working
        await rt.capacity.close()
        storage.close()


@pytest.fixture
async def http(rt: Runtime) -> AsyncGenerator[httpx2.AsyncClient]:
    """Return a client of the service."""
    transport = httpx2.ASGITransport(create_app(rt))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def submitted(http: httpx2.AsyncClient, prompt: str = "a storm") -> httpx2.Response:
    """Submit a small job."""
    return await http.post("/api/v1/generate", json={"prompt": prompt, "parameters": SMALL})


async def until(met: Callable[[], Awaitable[Any]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await met():
            await asyncio.sleep(0.02)


async def seen(http: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
    """Return a job."""
    found: dict[str, Any] = (await http.get(f"/api/v1/jobs/{job_id}")).json()
    return found


def open_gate(rt: Runtime) -> None:
    """Allow predictions to end."""
    gate: Any = rt.providers["placeholder"]
    gate.closed = False


def assert_507(answer: httpx2.Response) -> None:
    """Check that the response is a problem document for a full disk."""
    assert answer.status_code == 507
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "storage_full"


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_full_storage(rt: Runtime, http: httpx2.AsyncClient, disk: FakeDisk) -> None:
    """Paid results wait for space, are collected then, and not paid for again."""
    job_id = (await submitted(http)).json()["id"]

    disk.full = True
    await rt.capacity.look()
    refused = await submitted(http)
    open_gate(rt)
    await until(lambda: postponed(rt))
    waiting = await seen(http, job_id)
    disk.full = False
    await until(lambda: accepted(http))
    await until(lambda: completed(http, job_id))

    assert_507(refused)
    assert waiting["status"] == "processing"
    assert await count(rt, "SELECT max(n) FROM attempts") == 1
    assert (await seen(http, job_id))["error_message"] is None


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_full_database(rt: Runtime, http: httpx2.AsyncClient) -> None:
    """Jobs in flight continue when there is space, and none is paid for again."""
    job_id = (await submitted(http)).json()["id"]

    await limit(rt, pages=await count(rt, "PRAGMA page_count"))
    refused = await last_accepted(http)
    kept = await seen(http, job_id)
    open_gate(rt)
    await limit(rt, pages=1_000_000)
    await until(lambda: accepted(http))
    await until(lambda: completed(http, job_id))
    await until(lambda: idle(rt))

    assert_507(refused)
    assert kept["status"] in {"pending", "processing"}
    jobs = await count(rt, "SELECT count(*) FROM jobs WHERE status = 'completed'")
    assert jobs == await count(rt, "SELECT count(*) FROM jobs")
    assert jobs == await count(rt, "SELECT count(*) FROM attempts")


async def last_accepted(http: httpx2.AsyncClient) -> httpx2.Response:
    """Fill the free space of the pages, and return the first refusal."""
    answer = await submitted(http)
    while answer.status_code == 201:
        answer = await submitted(http, "x" * 9000)
    return answer


async def limit(rt: Runtime, *, pages: int) -> None:
    """Limit the size of the database to a number of pages."""
    async with rt.db.write() as tx:
        await tx.execute(text(f"PRAGMA max_page_count = {pages}"))


async def count(rt: Runtime, statement: str) -> int:
    """Return a number from the database."""
    async with rt.db.read() as tx:
        return int(await tx.scalar(text(statement)))


async def postponed(rt: Runtime) -> int:
    """Return how often a collection was postponed."""
    return await count(rt, "SELECT count(*) FROM events WHERE type = 'postponed'")


async def idle(rt: Runtime) -> bool:
    """Whether all jobs have ended."""
    ongoing = "SELECT count(*) FROM jobs WHERE status IN ('pending', 'processing')"
    return await count(rt, ongoing) == 0


async def accepted(http: httpx2.AsyncClient) -> bool:
    """Whether jobs are accepted."""
    return (await submitted(http)).status_code == 201


async def completed(http: httpx2.AsyncClient, job_id: str) -> bool:
    """Whether a job has completed; fail if it has failed."""
    status = (await seen(http, job_id))["status"]
    assert status != "failed"
    return bool(status == "completed")
