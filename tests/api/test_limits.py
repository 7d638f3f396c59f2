"""Limits of a tenant, and the errors beyond them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from fleek.domain.job import Job, JobFilter, Status
from fleek.engine.bulk import BulkOperations, accept
from fleek.engine.runtime import Runtime
from fleek.settings import Settings
from fleek.store import bulk, listing
from fleek.store.bulk import BulkAction

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]
V1 = "/api/v1/generate"
CAT = {"prompt": "A cat"}
KEY = {"Idempotency-Key": "order-17"}
MOST = 3


@pytest.fixture
def limited(rt: Runtime, settings: Settings) -> Runtime:
    """Return a runtime with a low limit of jobs per tenant."""
    return replace(rt, settings=settings.model_copy(update={"max_live_jobs": MOST}))


@pytest.fixture
async def client(limited: Runtime, client_of: ClientOf) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client of the application with limits."""
    async with client_of(limited) as opened:
        yield opened


@pytest.mark.parametrize("path", [V1, "/generate"])
async def test_the_number_of_open_jobs_is_limited(client: httpx2.AsyncClient, path: str) -> None:
    """Under concurrency, too; the error says what to do."""
    answers = await asyncio.gather(*(client.post(path, json=CAT) for _ in range(20)))

    refused = [answer for answer in answers if answer.status_code == 429]
    (accepted, *others) = [answer for answer in answers if answer.is_success]
    assert (len(others) + 1, len(refused)) == (MOST, 20 - MOST)
    assert refused[0].json()["code"] == "too_many_jobs"
    assert refused[0].headers["retry-after"] == "30"
    job_id = accepted.json().get("id") or accepted.json()["job_id"]
    await client.post(f"/api/v1/jobs/{job_id}/cancel")
    assert (await client.post(path, json=CAT)).is_success
    assert (await client.post(path, json=CAT)).status_code == 429


async def test_a_repeated_request_is_accepted_at_the_limit(client: httpx2.AsyncClient) -> None:
    """A tenant at its limit still gets the jobs of its requests."""
    first = await client.post(V1, json=CAT, headers=KEY)
    await asyncio.gather(*(client.post(V1, json=CAT) for _ in range(MOST)))

    repeated = await client.post(V1, json=CAT, headers=KEY)
    other = await client.post(V1, json=CAT, headers={"Idempotency-Key": "order-18"})

    assert (repeated.status_code, repeated.json()["id"]) == (201, first.json()["id"])
    assert other.status_code == 429


async def test_bulk_retries_continue_when_a_place_is_free(limited: Runtime, make: Make) -> None:
    """A waiting operation does not block those of others."""
    failed = [await make(Status.FAILED) for _ in range(MOST + 1)]
    live = [await make() for _ in range(MOST)]
    retry = await accept(
        limited, BulkAction.RETRY, tenant_id="default", ids=[job.id for job in failed]
    )
    cancel = await accept(
        limited, BulkAction.CANCEL, tenant_id="default", ids=[job.id for job in live]
    )
    turns = BulkOperations(limited)

    await turns.turn()  # no place is free
    await turns.turn()
    between = await bulk.get(limited.db, cancel.id, tenant_id="default")
    await turns.turn()  # as many as there are free places

    pending = JobFilter(statuses=frozenset({Status.PENDING}))
    assert between.ended_at is not None
    assert await listing.count(limited.db, pending, tenant_id="default") == MOST
    assert (await bulk.get(limited.db, retry.id, tenant_id="default")).ended_at is None
