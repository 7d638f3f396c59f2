"""Limits of a caller hold across processes."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Final

import httpx2
import pytest

from backing_services import free_port
from service_process import PATIENCE, Process, Service

RATE: Final = 120  # per minute: 20 at once
BURST: Final = RATE // 6
LEASE: Final = RATE // 30
SECRET: Final = "s" * 40
KEYS: Final = {"API_KEYS": f"shop:{SECRET}", "RATE_PER_MINUTE": str(RATE)}


@pytest.fixture(params=["sqlite", "postgresql"])
def installation(request: pytest.FixtureRequest) -> Service:
    """Return a service on each kind of database in turn."""
    name = "service" if request.param == "sqlite" else "on_postgres"
    found: Service = request.getfixturevalue(name)
    return found


@pytest.fixture
async def clients(installation: Service) -> AsyncGenerator[list[httpx2.AsyncClient]]:
    """Open clients of two API processes."""
    ports = [installation.port, free_port()]
    for port in ports:
        await asyncio.to_thread(serve, installation, port)
    opened = [
        httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": SECRET}, timeout=PATIENCE
        )
        for port in ports
    ]
    yield opened
    for client in opened:
        await client.aclose()


def serve(service: Service, port: int) -> Process:
    """Start an API process without a worker on this port."""
    process = service.start("serve", "--no-worker", API_PORT=str(port), **KEYS)
    process.await_line("is ready")
    return process


async def test_processes_share_the_rate_of_a_key(clients: list[httpx2.AsyncClient]) -> None:
    """Of many concurrent requests to two processes, one burst is served, plus what time adds."""
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
