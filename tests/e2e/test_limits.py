"""Limits of a caller hold across processes."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import httpx2
import pytest

from backing_services import free_port
from service_process import PATIENCE, Process, Service

RATE: Final = 120  # per minute: 20 at once
BURST: Final = RATE // 6
LEASE: Final = RATE // 30
MOST: Final = 5
SECRET: Final = "s" * 40
CAT: Final = {"prompt": "A cat"}

Open = Callable[..., AbstractAsyncContextManager[list[httpx2.AsyncClient]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def installation(request: pytest.FixtureRequest, _full_suite: None) -> Service:
    """Return a service on each kind of database in turn."""
    name = "service" if request.param == "sqlite" else "on_postgres"
    found: Service = request.getfixturevalue(name)
    return found


@pytest.fixture
def clients_of(installation: Service) -> Open:
    """Return a function that opens clients of two API processes with these settings."""

    @asynccontextmanager
    async def opened(**settings: str) -> AsyncGenerator[list[httpx2.AsyncClient]]:
        ports = [installation.port, free_port()]
        for port in ports:
            await asyncio.to_thread(serve, installation, port, **settings)
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    httpx2.AsyncClient(
                        base_url=f"http://127.0.0.1:{port}",
                        headers={"X-API-Key": SECRET},
                        timeout=PATIENCE,
                    )
                )
                for port in ports
            ]

    return opened


def serve(service: Service, port: int, **settings: str) -> Process:
    """Start an API process without a worker on this port."""
    keys = f"shop:{SECRET}"
    settings = {
        "API_KEYS": keys,
        "API_PORT": str(port),
        "MAX_WRITE_WAIT_SECONDS": "120",  # no request is refused since the machine is busy
        **settings,
    }
    process = service.start("serve", "--no-worker", **settings)
    process.await_line("is ready")
    return process


async def test_processes_share_the_rate_of_a_key(clients_of: Open) -> None:
    """Of many concurrent requests to two processes, one burst is served, plus what time adds."""
    async with clients_of(RATE_PER_MINUTE=str(RATE)) as clients:
        began = time.monotonic()
        answers = await asyncio.gather(
            *(clients[n % 2].get("/api/v1/jobs?limit=1") for n in range(10 * BURST))
        )
        seconds = time.monotonic() - began

    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 429}
    assert statuses[200] <= BURST + seconds * RATE / 60 + 1
    assert statuses[200] >= BURST - 2 * (LEASE - 1)
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "rate_limited"


async def test_the_last_free_place_takes_one_job(clients_of: Open) -> None:
    """Two processes receive 200 concurrent requests."""
    limits = {"MAX_LIVE_JOBS": str(MOST), "RATE_PER_MINUTE": "0"}
    async with clients_of(**limits) as clients:
        for n in range(MOST - 1):
            assert (await clients[n % 2].post("/api/v1/generate", json=CAT)).is_success

        answers = await asyncio.gather(
            *(clients[n % 2].post("/api/v1/generate", json=CAT) for n in range(200))
        )

    assert Counter(answer.status_code for answer in answers) == {201: 1, 429: 199}


async def test_a_tenant_is_disabled_in_all_processes(clients_of: Open) -> None:
    """One process disables it, and the other one, which has just accepted its key, refuses it."""
    async with clients_of() as (one, other):
        made = await one.post("/api/v1/keys", json={"name": "shop", "tenant": "acme"})
        key = {"X-API-Key": made.json()["key"]}
        before = await other.get("/api/v1/jobs", headers=key)
        await one.patch("/api/v1/tenants/acme", json={"disabled": True})
        async with asyncio.timeout(PATIENCE):
            while (after := await other.get("/api/v1/jobs", headers=key)).is_success:
                await asyncio.sleep(0.2)

    assert before.status_code == 200
    assert (after.status_code, after.json()["code"]) == (403, "tenant_disabled")
