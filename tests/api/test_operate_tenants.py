"""Management of tenants by operators: limits of their own, and disabling them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any, Final

import httpx2
import pytest

from fakes import Clock
from fleek.api import streams as streams_module
from fleek.api.streams import Streams
from fleek.domain.access import Scope
from fleek.domain.job import JobRequest
from fleek.engine import media_links
from fleek.engine.access import KeyCache, caller_of, create_key
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.engine.tenants import TenantCache, change_tenant
from fleek.store import audit

ClientOf = Callable[[Runtime], httpx2.AsyncClient]

ACME: Final = "/api/v1/tenants/acme"
JOBS: Final = "/api/v1/jobs"
GENERATE: Final = "/api/v1/generate"
CAT: Final = {"prompt": "A cat"}
NO_LIMITS: Final = dict.fromkeys(
    ("max_live_jobs", "max_running", "max_uploaded_bytes", "rate_per_minute")
)


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the tenant cache."""
    return Clock()


@pytest.fixture
def rt(rt: Runtime, clock: Clock) -> Runtime:
    """Return a runtime whose caches use this clock."""
    return replace(rt, steady=clock.steady)


@pytest.fixture
async def acme(rt: Runtime) -> str:
    """Return a key of a tenant."""
    return (await create_key(rt, name="shop", tenant_id="acme", scopes=list(Scope)))[1]


@pytest.fixture
async def operator(rt: Runtime, client_of: ClientOf) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client with a key of an operator."""
    _, key = await create_key(rt, name="ops", tenant_id="default", scopes=[Scope.ADMIN])
    async with client_of(rt) as client:
        client.headers["X-API-Key"] = key
        yield client


@pytest.fixture
async def shop(rt: Runtime, client_of: ClientOf, acme: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client of the tenant, to another process on the same database."""
    async with client_of(replace(rt, keys=KeyCache(), tenants=TenantCache())) as client:
        client.headers["X-API-Key"] = acme
        yield client


async def test_limits_are_read_and_changed(operator: httpx2.AsyncClient, acme: str) -> None:
    """Omitted limits stay, and null restores the setting."""
    assert acme
    before = (await operator.get(ACME)).json()

    changed = await operator.patch(
        ACME, json={"limits": {"max_live_jobs": 5, "rate_per_minute": 0}}
    )
    again = await operator.patch(ACME, json={"limits": {"max_live_jobs": None, "max_running": 2}})
    listed = (await operator.get("/api/v1/tenants")).json()

    assert (before["id"], before["disabled_at"], before["limits"]) == ("acme", None, NO_LIMITS)
    assert changed.json()["limits"] == NO_LIMITS | {"max_live_jobs": 5, "rate_per_minute": 0}
    assert again.json()["limits"] == NO_LIMITS | {"max_running": 2, "rate_per_minute": 0}
    assert listed[0] == again.json()
    assert [tenant["id"] for tenant in listed] == ["acme", "default"]
    rest = await operator.get("/api/v1/tenants", params={"after": "acme"})
    assert [tenant["id"] for tenant in rest.json()] == ["default"]


@pytest.mark.parametrize(
    "body",
    [
        {"disabled": None},
        {"disabled": "yes"},
        {"limits": None},
        {"limits": {"max_live_jobs": 0}},
        {"limits": {"max_running": 0}},
        {"limits": {"max_running": "3"}},
        {"limits": {"rate_per_minute": -1}},
        {"limits": {"rate_per_minute": 10**7}},
        {"limits": {"max_jobs": 3}},
        {"enabled": True},
        [],
    ],
)
async def test_invalid_changes_are_refused(
    operator: httpx2.AsyncClient, acme: str, body: Any
) -> None:
    """They change nothing."""
    assert acme

    answer = await operator.patch(ACME, json=body)

    assert answer.status_code == 422
    assert (await operator.get(ACME)).json()["limits"] == NO_LIMITS


async def test_an_unknown_tenant_is_not_found(operator: httpx2.AsyncClient) -> None:
    """Only a key creates one."""
    answers = [
        await operator.get("/api/v1/tenants/nobody"),
        await operator.patch("/api/v1/tenants/nobody", json={"disabled": True}),
    ]

    assert [answer.status_code for answer in answers] == [404, 404]


async def test_only_operators_manage_tenants(rt: Runtime, client_of: ClientOf) -> None:
    """A key with all other scopes sees no tenant, not even its own."""
    scopes = [scope for scope in Scope if scope is not Scope.ADMIN]
    _, key = await create_key(rt, name="shop", tenant_id="acme", scopes=scopes)

    async with client_of(rt) as client:
        client.headers["X-API-Key"] = key
        answers = [
            await client.get("/api/v1/tenants"),
            await client.get(ACME),
            await client.patch(ACME, json={"limits": {"max_running": 9}}),
        ]

    assert [answer.status_code for answer in answers] == [403] * 3


async def test_a_disabled_tenant_is_refused_by_every_process(
    operator: httpx2.AsyncClient, shop: httpx2.AsyncClient, clock: Clock
) -> None:
    """Within half a second; other tenants are not affected, and enabling it reverses that."""
    before = await shop.get(JOBS)
    disabled = await operator.patch(ACME, json={"disabled": True})
    clock.tick(seconds=0.5)

    refused = [
        await shop.get(JOBS),
        await shop.post(GENERATE, json=CAT),
        await shop.get("/api/v1/me"),
    ]
    others = await operator.get(JOBS)
    await operator.patch(ACME, json={"disabled": False})
    clock.tick(seconds=0.5)
    after = await shop.get(JOBS)

    assert (before.status_code, others.status_code, after.status_code) == (200, 200, 200)
    assert disabled.json()["disabled_at"] is not None
    assert {answer.status_code for answer in refused} == {403}
    assert {answer.json()["code"] for answer in refused} == {"tenant_disabled"}


async def test_a_key_cannot_disable_its_own_tenant(operator: httpx2.AsyncClient) -> None:
    """With that key it could not be enabled again."""
    answer = await operator.patch("/api/v1/tenants/default", json={"disabled": True})

    assert (answer.status_code, answer.json()["code"]) == (409, "own_tenant")
    assert (await operator.get("/api/v1/tenants/default")).json()["disabled_at"] is None


async def test_files_of_a_disabled_tenant_are_refused(
    rt: Runtime, client: httpx2.AsyncClient, complete: Any, acme: str, clock: Clock
) -> None:
    """Also at addresses that were signed before."""
    assert acme
    job = await complete()
    await media_links.prepare(rt)
    name = f"{job.id}.png"
    address = f"/media/{name}{media_links.query(rt.keys.media_secret, name, now=rt.now())}"
    before = await client.get(address)

    await change_tenant(rt, "default", enabled=False)
    clock.tick(seconds=0.5)
    closed = await client.get(address)

    assert (before.status_code, closed.status_code) == (200, 403)


async def test_callers_without_a_key_belong_to_the_default_tenant(
    rt: Runtime, client: httpx2.AsyncClient
) -> None:
    """It can be disabled on the machine of the service, and probes still respond."""
    await change_tenant(rt, "default", enabled=False)

    refused = await client.get(JOBS)

    assert (refused.status_code, refused.json()["code"]) == (403, "tenant_disabled")
    assert (await client.get("/livez")).status_code == 200


async def test_open_streams_of_a_disabled_tenant_end(
    rt: Runtime, acme: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of other tenants continue."""
    monkeypatch.setattr(streams_module, "CHECK_SECONDS", 0.01)
    _, other_key = await create_key(rt, name="x", tenant_id="other", scopes=list(Scope))
    callers = [await caller_of(rt, key) for key in (acme, other_key)]
    streams = Streams(rt)

    with contextlib.ExitStack() as stack:
        mine, other = (
            stack.enter_context(streams.open(caller, None))
            for caller in callers
            if caller is not None
        )
        await change_tenant(replace(rt, tenants=TenantCache()), "acme", enabled=False)
        clock.tick(seconds=0.5)
        await mine.bell.wait(seconds=60)

        assert mine.closed
        assert not other.closed


async def test_a_tenant_has_limits_of_its_own(
    rt: Runtime, operator: httpx2.AsyncClient, shop: httpx2.AsyncClient, clock: Clock
) -> None:
    """For jobs and requests; other tenants have those of the settings."""
    limits = {"max_live_jobs": 3, "rate_per_minute": 60}
    await operator.patch(ACME, json={"limits": limits})
    clock.tick(seconds=0.5)

    answers = await asyncio.gather(*(shop.post(GENERATE, json=CAT) for _ in range(20)))
    me = (await operator.get("/api/v1/me")).json()["limits"]
    created = [await submit(rt, JobRequest(prompt="A cat")) for _ in range(4)]

    codes = [answer.json().get("code") for answer in answers]
    assert codes.count(None) == 3
    assert {*codes} == {None, "too_many_jobs", "rate_limited"}
    assert answers[0].headers["ratelimit-policy"] == '"default";q=60;w=60'
    assert len(created) == 4
    assert me == NO_LIMITS | {"rate_per_minute": 600}


async def test_a_caller_can_read_its_limits(
    operator: httpx2.AsyncClient, shop: httpx2.AsyncClient
) -> None:
    """Its own, and those of the settings."""
    await operator.patch(ACME, json={"limits": {"max_running": 7}})

    me = (await shop.get("/api/v1/me")).json()

    assert me["limits"] == NO_LIMITS | {"max_running": 7, "rate_per_minute": 600}


async def test_audit_entries_contain_both_limits(
    rt: Runtime, operator: httpx2.AsyncClient, acme: str
) -> None:
    """The limits before and after; a change without effect leaves no entry."""
    assert acme
    for _ in range(2):
        await operator.patch(ACME, json={"limits": {"max_running": 7}})

    line, *others = await audit.latest(rt.db, limit=9)

    assert (line.entry.action, line.entry.target) == ("tenant.limited", "acme")
    assert line.entry.detail == {"before": NO_LIMITS, "after": NO_LIMITS | {"max_running": 7}}
    assert "tenant.limited" not in {each.entry.action for each in others}
