"""A locked database: writes are refused soon, and everything else responds."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import text

from backing_services import SLOW_LOCKS, both_databases
from fleek.app import create_app
from fleek.domain.job import JobRequest
from fleek.engine.cancel import cancel
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.settings import Settings
from fleek.store.database import open_database
from stored_outputs import with_settings

pytestmark = both_databases
BASE = "http://127.0.0.1"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Return settings with the service's own, short wait for a lock."""
    url = settings.database_url.removesuffix(SLOW_LOCKS)
    return settings.model_copy(update={"database_url": url})


@asynccontextmanager
async def locked(rt: Runtime, url: str) -> AsyncIterator[None]:
    """Hold a lock on the table of jobs, or on the file, against all writers."""
    if rt.db.kind == "sqlite":
        with closing(
            sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
        return
    async with open_database(url) as db, db.write() as tx:
        await tx.execute(text("LOCK TABLE jobs IN EXCLUSIVE MODE"))
        yield


@pytest.mark.usefixtures("_full_suite")
async def test_a_locked_database_refuses_writes_and_nothing_else(
    rt: Runtime, database_url: str
) -> None:
    """Every kind of write is refused, and refused writes leave nothing behind."""
    rt = with_settings(rt, max_write_wait_seconds=timedelta(seconds=0.8))
    waits = await submit(rt, JobRequest(prompt="a cat"))
    failed = await submit(rt, JobRequest(prompt="a dog"))
    await cancel(rt, failed.id, tenant_id="default")
    writes = (
        ("POST", "/api/v1/generate", {"prompt": "refused"}),
        ("POST", f"/api/v1/jobs/{waits.id}/cancel", None),
        ("DELETE", f"/api/v1/jobs/{waits.id}", None),
        ("POST", f"/api/v1/jobs/{failed.id}/retry", None),
    )
    reads = ("/livez", "/api/v1/jobs", f"/api/v1/jobs/{waits.id}")
    transport = httpx2.ASGITransport(create_app(rt))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as caller:
        async with locked(rt, database_url):
            refused = [await caller.request(how, path, json=body) for how, path, body in writes]
            answers = [await caller.get(path) for path in reads]
            ready = await caller.get("/readyz")
        listed = (await caller.get("/api/v1/jobs")).json()
        again = await caller.post("/api/v1/generate", json={"prompt": "taken"})

    errors = [
        (one.status_code, one.json()["code"], "retry-after" in one.headers) for one in refused
    ]
    assert errors == [(503, "overloaded", True)] * len(writes)
    assert [one.status_code for one in answers] == [200] * len(reads)
    assert ready.status_code in {200, 503}
    assert {job["prompt"] for job in listed} == {"a cat", "a dog"}
    assert again.status_code == 201
