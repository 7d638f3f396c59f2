"""API keys: access from the first key until a key is revoked."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx2
import pytest
from structlog.testing import capture_logs

from fakes import Clock
from fleek.api import streams as streams_module
from fleek.api.access import MOST_PEERS, REFUSED_PER_MINUTE, RefusedKeys
from fleek.api.streams import Streams
from fleek.app import create_app
from fleek.client import AsyncClient
from fleek.domain.access import ANONYMOUS, Scope
from fleek.domain.api_keys import KeyId, new_key
from fleek.domain.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    TooMany,
    Unauthorized,
)
from fleek.domain.job import JobId
from fleek.engine.access import (
    MOST_CACHED,
    KeyCache,
    TimedCache,
    caller_of,
    check_exposure,
    create_key,
    keys_required,
)
from fleek.engine.runtime import Runtime
from fleek.environment import read
from fleek.settings import Settings
from fleek.store import api_keys, jobs

ClientOf = Callable[[Runtime], httpx2.AsyncClient]
KeyOf = Callable[..., Coroutine[Any, Any, str]]

JOBS: Final = "/api/v1/jobs"
BASE: Final = "http://fleek.test"
CONFIGURED: Final = "s" * 32
ANYWHERE: Final = {"api_host": "0.0.0.0"}  # noqa: S104 - not bound


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the key cache."""
    return Clock()


@pytest.fixture
def rt(rt: Runtime, clock: Clock) -> Runtime:
    """Return a runtime whose caches use this clock."""
    return replace(rt, steady=clock.steady)


@pytest.fixture
async def other(rt: Runtime, client_of: ClientOf) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client of another process on the same database."""
    async with client_of(replace(rt, keys=KeyCache())) as opened:
        yield opened


@pytest.fixture
def key_of(rt: Runtime) -> KeyOf:
    """Return a function that creates a key and returns it."""

    async def made(*scopes: Scope, tenant_id: str = "default", **fields: Any) -> str:
        given = list(scopes or Scope)
        _, key = await create_key(rt, name="test", tenant_id=tenant_id, scopes=given, **fields)
        return key

    return made


def bearer(key: str) -> dict[str, str]:
    """Return the header with the key."""
    return {"Authorization": f"Bearer {key}"}


def id_of(key: str) -> str:
    """Return the id of a key."""
    return key.split("_")[1]


async def test_without_keys_access_is_open(client: httpx2.AsyncClient) -> None:
    """For a first try on a laptop; a key sent by a client is ignored."""
    answers = [await client.get(JOBS), await client.get(JOBS, headers=bearer("whatever"))]

    assert [answer.status_code for answer in answers] == [200, 200]


async def test_the_first_key_closes_access(
    client: httpx2.AsyncClient, key_of: KeyOf, clock: Clock
) -> None:
    """Within half a second, and permanently, even when it has been revoked."""
    before = await client.get(JOBS)
    key = await key_of()
    clock.tick(seconds=0.5)

    without = await client.get(JOBS)
    with_key = await client.get(JOBS, headers=bearer(key))
    await client.delete(f"/api/v1/keys/{id_of(key)}", headers=bearer(key))
    clock.tick(seconds=0.5)
    after = await client.get(JOBS)

    statuses = [answer.status_code for answer in (before, without, with_key, after)]
    assert statuses == [200, 401, 200, 401]


async def test_the_very_first_key_counts_at_once(
    rt: Runtime, client: httpx2.AsyncClient, key_of: KeyOf
) -> None:
    """Although the process has just read that there are none; the job has the key's tenant."""
    await client.get(JOBS)
    key = await key_of(tenant_id="acme")

    created = await client.post("/api/v1/generate", json={"prompt": "A cat"}, headers=bearer(key))

    job = await jobs.get_any_tenant(rt.db, JobId(UUID(created.json()["id"])))
    assert (job.tenant_id, job.key_id) == ("acme", id_of(key))
    assert (await client.get(JOBS)).status_code == 401


async def test_access_stays_closed_after_a_restart(
    rt: Runtime, other: httpx2.AsyncClient, key_of: KeyOf
) -> None:
    """A new process queries the database."""
    key = await key_of()
    await api_keys.revoke(rt.db, KeyId(id_of(key)), now=rt.now())

    assert (await other.get(JOBS)).status_code == 401


async def test_open_routes_need_no_key(client: httpx2.AsyncClient, key_of: KeyOf) -> None:
    """Probes, pages and the description of the API."""
    await key_of()

    for path in ("/", "/docs", "/openapi.json", "/health", "/livez", "/readyz"):
        assert (await client.get(path)).status_code in {200, 503}, path


async def test_each_way_to_send_a_key_works(client: httpx2.AsyncClient, key_of: KeyOf) -> None:
    """Including those of the libraries of Replicate and fal."""
    key = await key_of()
    ways: list[dict[str, str]] = [
        *({"Authorization": f"{scheme} {key}"} for scheme in ("Bearer", "Key", "Token", "bearer")),
        {"X-API-Key": key},
        {"X-API-Key": key, "Authorization": f"Bearer {key}"},
        {"X-API-Key": key, "Authorization": "Basic dXNlcjpwYXNzd29yZA=="},  # of a proxy
    ]

    for headers in ways:
        assert (await client.get(JOBS, headers=headers)).status_code == 200, headers


async def test_a_refusal_does_not_reveal_its_reason(
    client: httpx2.AsyncClient, rt: Runtime, key_of: KeyOf
) -> None:
    """Missing, malformed, unknown, wrong, expired and revoked keys get the same response."""
    valid = await key_of()
    expired = await key_of(expires_at=rt.now() - timedelta(seconds=1))
    revoked = await key_of()
    await api_keys.revoke(rt.db, KeyId(id_of(revoked)), now=rt.now())
    _, unknown = new_key()
    forged = unknown.replace(id_of(unknown), id_of(valid))

    shown = ("", "x", "é", valid[:-1], unknown, forged, expired, revoked)
    answers = [await client.get(JOBS)]
    answers += [await client.get(JOBS, headers=[(b"X-API-Key", key.encode())]) for key in shown]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert len({(body := a.json())["detail"] + body["code"] for a in answers}) == 1
    assert answers[0].json()["code"] == "unauthorized"


async def test_a_malformed_secret_with_a_valid_id_is_refused(
    client: httpx2.AsyncClient, key_of: KeyOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id is public: the digest decides."""
    valid = await key_of()
    monkeypatch.setattr("fleek.engine.access.id_of", id_of)
    _, unknown = new_key()

    answer = await client.get(JOBS, headers=bearer(unknown.replace(id_of(unknown), id_of(valid))))

    assert answer.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer a"), ("Authorization", "Bearer a")],
        [("X-API-Key", "a"), ("X-API-Key", "b")],
        [("Authorization", "Bearer a"), ("X-API-Key", "b")],
    ],
)
async def test_several_keys_are_ambiguous(
    client: httpx2.AsyncClient, key_of: KeyOf, headers: list[tuple[str, str]]
) -> None:
    """A proxy and the service could use different ones."""
    await key_of()

    answer = await client.get(JOBS, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "ambiguous_credentials")


async def test_a_key_in_a_query_is_refused(client: httpx2.AsyncClient, key_of: KeyOf) -> None:
    """Also a valid one, and under any name."""
    key = await key_of()

    for query in (f"api_key={key}", "access_token=x", f"limit=1&x={key}"):
        answer = await client.get(f"{JOBS}?{query}", headers=bearer(key))
        assert (answer.status_code, answer.json()["code"]) == (400, "key_in_query"), query
        assert key not in answer.text


async def test_a_key_is_limited_to_its_scopes(client: httpx2.AsyncClient, key_of: KeyOf) -> None:
    """The error names the missing scope."""
    key = await key_of(Scope.JOBS_READ)

    listed = await client.get(JOBS, headers=bearer(key))
    created = await client.post("/api/v1/generate", json={"prompt": "A cat"}, headers=bearer(key))

    assert listed.status_code == 200
    assert (created.status_code, created.json()["code"]) == (403, "insufficient_scope")
    assert "jobs:write" in created.json()["detail"]


async def test_a_revocation_takes_effect_on_all_processes(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient, key_of: KeyOf, clock: Clock
) -> None:
    """Each process caches a key for half a second at most."""
    key, admin = await key_of(), await key_of(Scope.ADMIN)
    before = [await each.get(JOBS, headers=bearer(key)) for each in (client, other)]

    revoked = await client.delete(f"/api/v1/keys/{id_of(key)}", headers=bearer(admin))
    clock.tick(seconds=0.5)
    after = [await each.get(JOBS, headers=bearer(key)) for each in (client, other)]

    assert [answer.status_code for answer in before] == [200, 200]
    assert revoked.json()["revoked_at"] is not None
    assert [answer.status_code for answer in after] == [401, 401]


@pytest.mark.parametrize("has_key", [True, False])
async def test_open_streams_end_with_the_access(
    rt: Runtime, key_of: KeyOf, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, has_key: bool
) -> None:
    """Those of a revoked key, and those without a key once there is one."""
    monkeypatch.setattr(streams_module, "CHECK_SECONDS", 0.01)
    caller = ANONYMOUS
    if has_key:
        caller = await caller_of(rt, await key_of()) or ANONYMOUS
        kept = await caller_of(rt, await key_of())
    else:
        kept = None
    streams = Streams(rt)

    with contextlib.ExitStack() as stack:
        open_stream = stack.enter_context(streams.open(caller, None))
        other = None if kept is None else stack.enter_context(streams.open(kept, None))
        if caller.key_id is None:
            await key_of()
        else:
            await api_keys.revoke(rt.db, KeyId(caller.key_id), now=rt.now())
        clock.tick(seconds=0.5)
        await open_stream.bell.wait(seconds=60)

        assert open_stream.closed
        assert other is None or not other.closed


async def test_a_key_is_read_at_most_twice_a_second(
    client: httpx2.AsyncClient, key_of: KeyOf, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown one, too."""
    key = await key_of()
    _, unknown = new_key()
    reads: list[str] = []
    find = api_keys.find

    async def counted(db: Any, key_id: Any) -> Any:
        reads.append(key_id)
        return await find(db, key_id)

    monkeypatch.setattr(api_keys, "find", counted)

    for shown in (key, unknown, key, unknown):
        await client.get(JOBS, headers=bearer(shown))
    clock.tick(seconds=0.5)
    await client.get(JOBS, headers=bearer(key))

    assert reads == [id_of(key), id_of(unknown), id_of(key)]


def test_the_size_of_the_key_cache_is_limited() -> None:
    """Many keys cost no memory, because the oldest are dropped first."""
    cache = TimedCache[int](seconds=1)

    for number in range(MOST_CACHED + 1):
        cache.put(str(number), number, now=0)

    assert len(cache) == MOST_CACHED
    assert cache.get("0", now=0) is None
    assert cache.get(str(MOST_CACHED), now=0) == (MOST_CACHED,)


async def test_the_last_use_of_a_key_is_shown(
    rt: Runtime, client: httpx2.AsyncClient, key_of: KeyOf, clock: Clock
) -> None:
    """It is stored beside the request, once a minute."""
    key = await key_of()
    writes = []
    note_use = api_keys.note_use

    async def counted(*args: Any, **kwargs: Any) -> None:
        writes.append(1)
        await note_use(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api_keys, "note_use", counted)
        for _ in range(3):
            await client.get(JOBS, headers=bearer(key))
            clock.tick(seconds=1)
        await rt.keys.tasks.finish(seconds=10)

    (found,) = (await client.get("/api/v1/keys", headers=bearer(key))).json()
    assert found["last_used_at"] is not None
    assert len(writes) == 1


async def test_a_job_contains_the_key_that_created_it(
    rt: Runtime, client: httpx2.AsyncClient, key_of: KeyOf
) -> None:
    """It shows who has paid; a retry contains the key of the retry."""
    first, second = await key_of(), await key_of()

    created = await client.post(
        "/api/v1/generate", json={"prompt": "A cat"}, headers=bearer(first)
    )
    path = f"{JOBS}/{created.json()['id']}"
    await client.post(f"{path}/cancel", headers=bearer(first))
    retried = await client.post(f"{path}/retry", headers=bearer(second))

    ids = [JobId(UUID(answer.json()["id"])) for answer in (created, retried)]
    found = [await jobs.get_any_tenant(rt.db, job_id) for job_id in ids]
    assert [job.key_id for job in found] == [id_of(first), id_of(second)]


async def test_a_repeated_request_may_come_with_another_key(
    client: httpx2.AsyncClient, key_of: KeyOf
) -> None:
    """Of the same tenant: a key may be replaced in between; another tenant has its own jobs."""
    keys = [await key_of(), await key_of(), await key_of(tenant_id="acme")]

    answers = [
        await client.post(
            "/api/v1/generate",
            json={"prompt": "A cat"},
            headers={**bearer(key), "Idempotency-Key": "order-17"},
        )
        for key in keys
    ]

    first, second, other = [answer.json()["id"] for answer in answers]
    assert first == second != other


async def test_wrong_keys_are_limited_and_a_valid_one_is_not(
    client: httpx2.AsyncClient, key_of: KeyOf
) -> None:
    """Several callers may share an address; that of a proxy does not count."""
    key = await key_of()

    statuses = [(await client.get(JOBS)).status_code for _ in range(REFUSED_PER_MINUTE)]
    limited = await client.get(JOBS, headers=bearer("wrong"))
    valid = await client.get(JOBS, headers=bearer(key))
    behind_a_proxy = await client.get(JOBS, headers={"X-Forwarded-For": "203.0.113.9"})

    assert behind_a_proxy.status_code == 401
    assert set(statuses) == {401}
    assert (limited.status_code, limited.json()["code"]) == (429, "too_many_requests")
    assert 1 <= int(limited.headers["retry-after"]) <= 60
    assert valid.status_code == 200


def test_refusals_expire_after_a_minute() -> None:
    """Addresses are dropped, too, if there are too many."""
    clock = Clock()
    refused = RefusedKeys(clock=clock.steady)

    for _ in range(REFUSED_PER_MINUTE):
        refused.add("a")
    with pytest.raises(TooMany):
        refused.add("a")
    clock.tick(seconds=60)
    for _ in range(REFUSED_PER_MINUTE):
        refused.add("a")
    for number in range(MOST_PEERS):
        refused.add(str(number))
    refused.add("a")


async def test_keys_can_be_settings(
    rt: Runtime, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have all scopes, and access without a key is closed."""
    monkeypatch.setenv("API_KEYS", f"laptop:{CONFIGURED}, ci:{'t' * 40}")
    settings = rt.settings.model_copy(update={"api_keys": read(Settings).api_keys})

    async with client_of(replace(rt, settings=settings)) as client:
        without = await client.get(JOBS)
        wrong = await client.get(JOBS, headers=bearer("x" * 32))
        created = await client.post(
            "/api/v1/generate", json={"prompt": "A cat"}, headers=bearer(CONFIGURED)
        )
        listed = await client.get("/api/v1/keys", headers=bearer("t" * 40))

    statuses = [answer.status_code for answer in (without, wrong, created, listed)]
    assert statuses == [401, 401, 201, 200]
    job = await jobs.get_any_tenant(rt.db, JobId(UUID(created.json()["id"])))
    assert job.key_id == "setting:laptop"


@pytest.mark.parametrize(
    "value",
    ["one", "one,two", f"a:{'s' * 31}", f":{CONFIGURED}", f"a:{CONFIGURED},a:{CONFIGURED}"],
)
def test_an_invalid_configured_key_is_refused_at_the_start(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the setting and not its content."""
    monkeypatch.setenv("API_KEYS", value)

    with pytest.raises(ConfigurationError, match=r"^API_KEYS: ") as refused:
        read(Settings)

    assert value not in str(refused.value)


async def test_a_public_address_requires_keys(
    rt: Runtime, key_of: KeyOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the operator allows anonymous access; one key is enough."""
    exposed = replace(rt, settings=rt.settings.model_copy(update=ANYWHERE))
    allowed = rt.settings.model_copy(update={**ANYWHERE, "allow_anonymous": True})
    monkeypatch.setenv("API_KEYS", f"a:{CONFIGURED}")
    configured = rt.settings.model_copy(update={**ANYWHERE, "api_keys": read(Settings).api_keys})

    with pytest.raises(ConfigurationError, match="ALLOW_ANONYMOUS"):
        await check_exposure(exposed)
    await check_exposure(replace(rt, settings=allowed))
    await check_exposure(replace(rt, settings=configured))
    await key_of()
    await check_exposure(exposed)


async def test_a_public_address_requires_keys_even_with_an_empty_database(
    rt: Runtime, client_of: ClientOf
) -> None:
    """Removed rows do not open access."""
    exposed = replace(rt, settings=rt.settings.model_copy(update=ANYWHERE))

    async with client_of(exposed) as client:
        assert (await client.get(JOBS)).status_code == 401


async def test_access_stays_unchanged_during_a_database_outage(
    rt: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has not read the keys yet refuses."""
    known = await keys_required(rt)

    async def unavailable(_: Any) -> bool:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(api_keys, "exist", unavailable)
    clock.tick(seconds=1)

    assert await keys_required(rt) == known
    with pytest.raises(DatabaseUnavailable):
        await keys_required(replace(rt, keys=KeyCache()))


@pytest.mark.parametrize("path", ["/metrics", "/info", "/health/detailed"])
async def test_metrics_are_for_operators(
    rt: Runtime, client_of: ClientOf, key_of: KeyOf, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """With a key or the token, or from the machine itself, but not through a local proxy."""
    monkeypatch.setenv("METRICS_TOKEN", "m" * 32)
    token = {"metrics_token": read(Settings).metrics_token}
    admin, plain = await key_of(Scope.ADMIN), await key_of(Scope.JOBS_READ)
    here = {"Host": "127.0.0.1:8000"}
    asked = {
        "nothing": ({}, 401),
        "a plain key": (bearer(plain), 403),
        "admin": (bearer(admin), 200),
        "the token": (bearer("m" * 32), 200),
        "another token": (bearer("n" * 32), 401),
        "on this machine": (here, 200),
        "by a proxy on this machine": ({**here, "X-Forwarded-For": "203.0.113.9"}, 401),
    }

    with capture_logs():
        async with client_of(replace(rt, settings=rt.settings.model_copy(update=token))) as client:
            found = {
                name: (await client.get(path, headers=headers)).status_code
                for name, (headers, _) in asked.items()
            }
            jobs_by_token = await client.get(JOBS, headers=bearer("m" * 32))

    expected = {name: status for name, (_, status) in asked.items()}
    assert {name: 200 if code == 503 else code for name, code in found.items()} == expected
    assert jobs_by_token.status_code == 403


async def test_an_operator_creates_lists_and_revokes_keys(
    client: httpx2.AsyncClient, key_of: KeyOf
) -> None:
    """The secret is in one response, which must not be cached."""
    admin = bearer(await key_of(Scope.ADMIN))
    wish = {
        "name": "shop",
        "tenant": "acme",
        "scopes": ["jobs:write", "jobs:read"],
        "expires_at": "2099-01-01T00:00:00Z",
    }

    created = await client.post("/api/v1/keys", json=wish, headers=admin)
    secret = created.json()["key"]
    used = await client.get(JOBS, headers=bearer(secret))
    listed = await client.get("/api/v1/keys?tenant=acme", headers=admin)
    everything = await client.get("/api/v1/keys", headers=admin)
    paths = [f"/api/v1/keys/{created.json()['id']}", "/api/v1/keys/aaaaaaaaaaaa"]
    revoked, missing = [await client.delete(path, headers=admin) for path in paths]

    assert created.status_code == 201
    assert created.headers["cache-control"] == "no-store"
    assert secret.startswith(created.json()["prefix"])
    assert created.json()["scopes"] == ["jobs:read", "jobs:write"]
    assert used.status_code == 200
    assert [key["name"] for key in listed.json()] == ["shop"]
    assert len(everything.json()) == 2
    assert secret.rpartition("_")[2] not in listed.text
    assert (revoked.status_code, missing.status_code) == (200, 404)


async def test_a_key_belongs_to_the_creator_s_tenant_by_default(
    client: httpx2.AsyncClient, key_of: KeyOf
) -> None:
    """It has all scopes but the management of keys."""
    admin = bearer(await key_of(Scope.ADMIN, tenant_id="acme"))

    created = (await client.post("/api/v1/keys", json={"name": "x"}, headers=admin)).json()

    assert created["tenant"] == "acme"
    assert {*Scope} - {*created["scopes"]} == {"admin"}


async def test_an_invalid_key_request_is_refused(
    client: httpx2.AsyncClient, key_of: KeyOf, subtests: pytest.Subtests
) -> None:
    """422, and nothing is created."""
    admin = bearer(await key_of(Scope.ADMIN))
    for wish in [
        {},
        {"name": ""},
        {"name": "a b"},
        {"name": "x" * 65},
        {"name": "x\n"},
        {"name": "x", "tenant": "../x"},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "expires_at": "2020-01-01T00:00:00Z"},
        {"name": "x", "expires_at": "2030-01-01T00:00:00"},
        {"name": "x", "secret": "mine"},
    ]:
        with subtests.test(wish=str(wish)[:40]):
            answer = await client.post("/api/v1/keys", json=wish, headers=admin)

            assert answer.status_code == 422
            assert len((await client.get("/api/v1/keys", headers=admin)).json()) == 1


@pytest.mark.parametrize("scopes", [(), tuple(set(Scope) - {Scope.ADMIN})])
async def test_keys_are_managed_by_operators_only(
    client: httpx2.AsyncClient, key_of: KeyOf, scopes: tuple[Scope, ...]
) -> None:
    """Neither without keys nor with all other scopes."""
    headers = bearer(await key_of(*scopes)) if scopes else {}
    asked = [
        await client.get("/api/v1/keys", headers=headers),
        await client.post("/api/v1/keys", json={"name": "x"}, headers=headers),
        await client.delete("/api/v1/keys/aaaaaaaaaaaa", headers=headers),
    ]

    assert {answer.status_code for answer in asked} == {403}


async def test_the_client_sends_its_key(
    rt: Runtime, key_of: KeyOf, complete: Callable[..., Any], tmp_path: Path
) -> None:
    """With each request, also for downloads, which do not use a signed address."""
    job = await complete()
    key = await key_of(*(scope for scope in Scope if scope is not Scope.ADMIN))
    transport = httpx2.ASGITransport(create_app(rt))

    async with AsyncClient(BASE, api_key=key, transport=transport) as client:
        created = await client.submit("A cat")
        listed = [one.id async for one in client.jobs()]
        path = await client.download(job.id, tmp_path / "cat.png")
    async with AsyncClient(BASE, api_key="", transport=transport) as anonymous:
        with pytest.raises(Unauthorized):
            await anonymous.status(job.id)

    assert listed == [created.id, job.id]
    assert path.stat().st_size > 0


async def test_the_log_contains_the_id_of_the_key_only(
    client: httpx2.AsyncClient, key_of: KeyOf
) -> None:
    """For accepted and for refused requests."""
    key = await key_of(Scope.JOBS_READ)
    _, unknown = new_key()

    with capture_logs() as lines:
        for headers in (bearer(key), bearer(unknown), {"X-API-Key": unknown}):
            await client.get(JOBS, headers=headers)
        await client.post("/api/v1/generate", json={"prompt": "A cat"}, headers=bearer(key))
        await client.get(f"{JOBS}?api_key={key}")

    handled = [line for line in lines if line["event"] == "request_handled"]
    assert [line.get("key_id") for line in handled] == [id_of(key), None, None, id_of(key), None]
    assert not any(one.rpartition("_")[2] in repr(lines) for one in (key, unknown))


async def test_a_caller_can_read_its_identity(client: httpx2.AsyncClient, key_of: KeyOf) -> None:
    """With any scopes; `admin` lists all of them; without keys, the anonymous ones."""
    before = (await client.get("/api/v1/me")).json()
    plain, admin = await key_of(Scope.USAGE_READ, tenant_id="acme"), await key_of(Scope.ADMIN)

    identity = [
        (await client.get("/api/v1/me", headers=bearer(key))).json() for key in (plain, admin)
    ]

    assert (before["tenant"], before["key"]) == ("default", None)
    assert {*Scope} - {*before["scopes"]} == {"admin"}
    assert (identity[0]["tenant"], identity[0]["key"]) == ("acme", id_of(plain))
    assert identity[0]["scopes"] == ["usage:read"]
    assert identity[0]["features"]["events"] is True
    assert {*identity[1]["scopes"]} == {*Scope}
