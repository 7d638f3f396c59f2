"""The audit log: each action that matters for accountability, with its actor."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import httpx2
import pytest

from fleek.app import create_app
from fleek.domain.access import Scope
from fleek.domain.audit import Action
from fleek.domain.job import Job
from fleek.engine.access import create_key
from fleek.engine.runtime import Runtime
from fleek.store import audit
from service_process import PATIENCE

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]

TOKEN = "https://example.com/hook?token=very-secret"


BY_ITSELF = {Action.ADMIN_REFUSED, Action.ENDPOINT_DISABLED}
"""What the service writes by itself, see below and `engine.test_deliver`."""


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
    """Actions on keys, the queue, purges, webhooks, tenants and budgets."""
    job, other = await complete(), await complete()
    key_id = (await operator.post("/api/v1/keys", json={"name": "x"})).json()["id"]
    await operator.delete(f"/api/v1/keys/{key_id}")
    await operator.post("/api/v1/keys", json={"name": "y", "tenant": "acme"})
    await operator.get("/api/v1/keys?tenant=acme")
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
    for limit in ("5", None):
        await operator.post("/api/v1/budgets", json={"period": "day", "limit": limit})

    assert await actions(rt) == [
        *("key.created", "key.created", "key.revoked", "key.created", "keys.listed"),
        *("queue.paused", "queue.resumed"),
        *("job.purged", "jobs.purged", "endpoint.created", "endpoint.updated", "secret.rotated"),
        *("delivery.replayed", "endpoint.deleted", "key.created"),
        *("tenant.limited", "tenant.disabled", "tenant.enabled"),
        *("budget.set", "budget.removed"),
    ]
    assert {*await actions(rt)} == {*Action} - BY_ITSELF
    assert "very-secret" not in repr(await audit.latest(rt.db, limit=100))
    assert await audit.verify(rt.db) == (20, None)


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


async def test_reads_of_other_tenants_keys_are_logged(
    rt: Runtime, operator: httpx2.AsyncClient
) -> None:
    """One entry for each of them, but none for the operator's own tenant."""
    for tenant in ("acme", "other", "acme"):
        await create_key(rt, name="x", tenant_id=tenant, scopes=[Scope.JOBS_READ])
    before = len(await actions(rt))

    await operator.get("/api/v1/keys", headers={"X-Request-ID": "r18"})
    await operator.get("/api/v1/keys?tenant=default")

    lines = [line.entry for line in await audit.latest(rt.db, limit=100)][:-before]
    assert [(line.action, line.target, line.tenant_id) for line in lines] == [
        ("keys.listed", "other", "other"),
        ("keys.listed", "acme", "acme"),
    ]
    assert {line.request_id for line in lines} == {"r18"}


async def test_refused_operators_are_counted(rt: Runtime) -> None:
    """The first one at once, the others of a minute in one entry; other routes do not count."""
    key, secret = await create_key(
        rt, name="x", tenant_id="acme", scopes=[Scope.JOBS_READ, Scope.JOBS_WRITE]
    )
    app = create_app(rt)
    transport = httpx2.ASGITransport(app)
    narrow, wrong = ({"X-API-Key": secret}, {"X-API-Key": secret[:-1]})
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        await http.get("/api/v1/jobs", headers=wrong)
        await http.get("/api/v1/queue", headers={**wrong, "X-Request-ID": "r1"})
        await written(rt, 2)
        await http.get("/api/v1/keys", headers=narrow)
        await http.get("/api/v1/keys")
        await http.delete(f"/api/v1/keys/{key.id}", headers=narrow)
        unfinished = len(await actions(rt))
    app.state.admin_refusals.close()
    await written(rt, 3)

    second, first = [line.entry for line in await audit.latest(rt.db, limit=2)]
    assert unfinished == 2
    assert (first.action, first.target, first.actor) == ("admin.refused", "admin", "anonymous")
    assert (first.request_id, first.tenant_id) == ("r1", "default")
    assert first.detail == {
        "requests": 1,
        "codes": {"unauthorized": 1},
        "routes": {"GET /api/v1/queue": 1},
        "actors": ["anonymous"],
    }
    assert (second.actor, second.tenant_id) == (key.id, "acme")
    assert second.detail == {
        "requests": 3,
        "codes": {"insufficient_scope": 2, "unauthorized": 1},
        "routes": {"GET /api/v1/keys": 2, "DELETE /api/v1/keys/{key_id}": 1},
        "actors": [key.id, "anonymous"],
    }
    assert await audit.verify(rt.db) == (3, None)


async def written(rt: Runtime, number: int) -> None:
    """Wait until the log has so many lines."""
    async with asyncio.timeout(PATIENCE):
        while len(await actions(rt)) < number:
            await asyncio.sleep(0.01)
