"""Operators read, pause and resume the queue over HTTP."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx2
import pytest

from fleek.domain.access import Scope
from fleek.domain.job import JobRequest
from fleek.engine.access import create_key
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit

ClientOf = Callable[[Runtime], httpx2.AsyncClient]


@pytest.fixture
async def operator(rt: Runtime, client_of: ClientOf) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client with a key of an operator."""
    _, key = await create_key(rt, name="ops", tenant_id="default", scopes=[Scope.ADMIN])
    async with client_of(rt) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        yield client


def parts(answer: httpx2.Response) -> list[tuple[Any, Any]]:
    """Return the pauses of a response."""
    return [(pause["provider"], pause["model"]) for pause in answer.json()["paused"]]


async def test_a_pause_lasts_until_it_is_ended(operator: httpx2.AsyncClient) -> None:
    """Pauses of all jobs, of a provider and of a model are independent."""
    await operator.post("/api/v1/queue/pause", json={})
    await operator.post("/api/v1/queue/pause", json={"provider": "placeholder"})
    paused = await operator.post("/api/v1/queue/pause", json={"model": "a/b"})
    resumed = await operator.post("/api/v1/queue/resume", json={})
    again = await operator.post("/api/v1/queue/resume", json={})
    read = await operator.get("/api/v1/queue")

    assert parts(paused) == [(None, None), ("placeholder", None), (None, "a/b")]
    assert parts(resumed) == parts(again) == parts(read) == [("placeholder", None), (None, "a/b")]


async def test_jobs_are_counted_and_still_accepted(
    rt: Runtime, operator: httpx2.AsyncClient
) -> None:
    """Those of all tenants."""
    await operator.post("/api/v1/queue/pause", json={})

    created = await operator.post("/api/v1/generate", json={"prompt": "A cat"})
    await submit(rt, JobRequest(prompt="A cat", tenant_id="acme"))
    queue = (await operator.get("/api/v1/queue")).json()

    assert created.status_code == 201
    assert (queue["pending"], queue["processing"]) == (2, 0)


@pytest.mark.parametrize(
    "body", [{"provider": "replicat"}, {"provider": ""}, {"model": "a b"}, {"providers": "x"}]
)
async def test_an_invalid_pause_is_refused(
    operator: httpx2.AsyncClient, body: dict[str, str]
) -> None:
    """A typing error would pause nothing, and look like a pause."""
    answer = await operator.post("/api/v1/queue/pause", json=body)

    assert answer.status_code == 422
    assert parts(await operator.get("/api/v1/queue")) == []


async def test_the_queue_is_for_operators_only(client: httpx2.AsyncClient) -> None:
    """It is shared by all tenants."""
    answers = [
        await client.get("/api/v1/queue"),
        await client.post("/api/v1/queue/pause", json={}),
        await client.post("/api/v1/queue/resume", json={}),
    ]

    assert {answer.status_code for answer in answers} == {403}
