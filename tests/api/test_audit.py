"""The audit log: each action that matters for accountability, with its actor."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import httpx2
import pytest

from fleek.domain.access import Scope
from fleek.domain.audit import Action
from fleek.domain.job import Job
from fleek.engine.access import create_key
from fleek.engine.runtime import Runtime
from fleek.store import audit

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]

TOKEN = "https://example.com/hook?token=very-secret"


@pytest.fixture
async def operator(rt: Runtime, client_of: ClientOf) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client with a key of an operator."""
    _, key = await create_key(rt, name="ops", tenant_id="default", scopes=[Scope.ADMIN])
    async with client_of(rt) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        yield client


async def actions(rt: Runtime) -> list[str]:
    """Return all actions, oldest first."""
    return [line.entry.action for line in reversed(await audit.latest(rt.db, limit=100))]


async def test_each_action_is_logged(
    rt: Runtime, operator: httpx2.AsyncClient, complete: Make
) -> None:
    """Actions on keys, the queue, purges, webhooks and tenants."""
    job, other = await complete(), await complete()
    key_id = (await operator.post("/api/v1/keys", json={"name": "x"})).json()["id"]
    await operator.delete(f"/api/v1/keys/{key_id}")
    await operator.post("/api/v1/queue/pause", json={})
    await operator.post("/api/v1/queue/resume", json={})
    await operator.delete(f"/api/v1/jobs/{job.id}?purge=true")
    await operator.post("/api/v1/jobs/purge", json={"ids": [str(other.id)]})
    hooks = "/api/v1/webhooks"
    created = await operator.post(f"{hooks}/endpoints", json={"url": TOKEN})
    endpoint = f"{hooks}/endpoints/{created.json()['id']}"
    await operator.patch(endpoint, json={"url": f"{TOKEN}2"})
    await operator.post(f"{endpoint}/rotate")
    delivery = (await operator.post(f"{endpoint}/test")).headers["location"]
    await operator.post(f"{delivery}/replay")
    await operator.delete(endpoint)
    await operator.post("/api/v1/keys", json={"name": "y", "tenant": "acme"})
    tenant = "/api/v1/tenants/acme"
    await operator.patch(tenant, json={"disabled": True, "limits": {"max_running": 3}})
    await operator.patch(tenant, json={"disabled": False})

    assert await actions(rt) == [
        *("key.created", "key.created", "key.revoked", "queue.paused", "queue.resumed"),
        *("job.purged", "jobs.purged", "endpoint.created", "endpoint.updated", "secret.rotated"),
        *("delivery.replayed", "endpoint.deleted", "key.created"),
        *("tenant.limited", "tenant.disabled", "tenant.enabled"),
    ]
    assert {*await actions(rt)} == {*Action}
    assert "very-secret" not in repr(await audit.latest(rt.db, limit=100))
    assert await audit.verify(rt.db) == (16, None)


async def test_an_entry_contains_the_actor_and_the_request(
    rt: Runtime, operator: httpx2.AsyncClient, complete: Make
) -> None:
    """So it can be found in the log of requests."""
    job = await complete()
    (first,) = await audit.latest(rt.db, limit=1)

    await operator.delete(f"/api/v1/jobs/{job.id}?purge=true", headers={"X-Request-ID": "r17"})

    line = (await audit.latest(rt.db, limit=1))[0].entry
    assert first.entry.actor == "command line"
    assert (line.actor, line.request_id) == (first.entry.target, "r17")
    assert (line.tenant_id, line.target) == ("default", str(job.id))


async def test_actions_without_effect_are_not_logged(
    rt: Runtime, operator: httpx2.AsyncClient, complete: Make
) -> None:
    """Neither repetitions nor refusals."""
    job = await complete()
    for _ in range(2):
        await operator.delete(f"/api/v1/jobs/{job.id}?purge=true")
        await operator.post("/api/v1/queue/pause", json={})
    await operator.post("/api/v1/queue/resume", json={"provider": "placeholder"})
    await operator.delete("/api/v1/keys/aaaaaaaaaaaa")
    await operator.post("/api/v1/keys", json={"name": ""})

    assert await actions(rt) == ["key.created", "job.purged", "queue.paused"]


async def test_without_keys_the_actor_is_anonymous(
    rt: Runtime, client: httpx2.AsyncClient, complete: Make
) -> None:
    """No identity is known."""
    job = await complete()

    await client.delete(f"/api/v1/jobs/{job.id}?purge=true")

    assert [line.entry.actor for line in await audit.latest(rt.db, limit=9)] == ["anonymous"]
