"""The rate of requests per caller, in one process and in several."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import httpx2
import pytest

from fakes import Clock
from fleek.api.request_rates import RequestRates, bucket_of
from fleek.domain.access import ANONYMOUS, Caller, Scope
from fleek.domain.errors import DatabaseUnavailable
from fleek.domain.request_rate import RequestRate, request_rate
from fleek.engine import media_links
from fleek.engine.access import KeyCache, create_key
from fleek.engine.purge import RATES_KEPT, Retention
from fleek.engine.runtime import Runtime
from fleek.settings import Settings
from fleek.store import request_rates
from fleek.store.database import Database, open_database

ClientOf = Callable[[Runtime], httpx2.AsyncClient]
KeyOf = Callable[..., Coroutine[Any, Any, dict[str, str]]]

JOBS: Final = "/api/v1/jobs"
RATE: Final = request_rate(600)
PROCESSES: Final = 3


@pytest.fixture
def clock() -> Clock:
    """Return a stopped clock."""
    return Clock()


@pytest.fixture
def rt(rt: Runtime, clock: Clock) -> Runtime:
    """Return a runtime on which no time passes."""
    return replace(rt, now=clock, steady=clock.steady)


@pytest.fixture
async def client(rt: Runtime, client_of: ClientOf) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client of the application."""
    async with client_of(rt) as opened:
        yield opened


@pytest.fixture
def key_of(rt: Runtime) -> KeyOf:
    """Return a function that creates a key and returns the header with it."""

    async def made(*scopes: Scope) -> dict[str, str]:
        given = list(scopes or Scope)
        _, key = await create_key(rt, name="test", tenant_id="default", scopes=given)
        return {"X-API-Key": key}

    return made


@pytest.fixture
async def processes(settings: Settings, rt: Runtime) -> AsyncGenerator[list[Runtime]]:
    """Return the runtimes of several processes on one database."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_database(settings.database_url))
            for _ in range(PROCESSES)
        ]
        yield [replace(rt, db=db, keys=KeyCache()) for db in opened]


def remaining(answer: httpx2.Response) -> int:
    """Return the number of remaining requests in a response."""
    policy, _, rest = answer.headers["ratelimit"].partition(";r=")
    assert policy == '"default"'
    return int(rest.partition(";")[0])


async def test_each_response_contains_the_remaining_requests(
    client: httpx2.AsyncClient, key_of: KeyOf
) -> None:
    """Errors, too."""
    key, weak = await key_of(), await key_of(Scope.USAGE_READ)

    answers = [
        await client.get(JOBS, headers=key),
        await client.get(f"{JOBS}/{uuid4()}", headers=key),
        await client.post("/api/v1/generate", json={}, headers=key),
        await client.get(JOBS, headers=weak),
    ]

    assert [answer.status_code for answer in answers] == [200, 404, 422, 403]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"default";q=600;w=60'}
    assert [remaining(answer) for answer in answers] == [99, 98, 97, 99]
    assert answers[0].headers["ratelimit"] == '"default";r=99;t=1'


async def test_requests_over_the_rate_are_refused(
    client: httpx2.AsyncClient, key_of: KeyOf, clock: Clock
) -> None:
    """A burst is served, and another key is not affected."""
    key, other = await key_of(), await key_of()

    answers = await asyncio.gather(*(client.get(JOBS, headers=key) for _ in range(150)))

    assert Counter(answer.status_code for answer in answers) == {200: RATE.burst, 429: 50}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "rate_limited"
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit"] == '"default";r=0;t=10'
    assert (await client.get(JOBS, headers=other)).status_code == 200
    clock.tick(seconds=1)
    later = [(await client.get(JOBS, headers=key)).status_code for _ in range(11)]
    assert later == [200] * 10 + [429]


async def test_a_refusal_reads_no_body(client: httpx2.AsyncClient, key_of: KeyOf) -> None:
    """Even if it is large."""
    key = await key_of()
    read: list[bytes] = []

    async def body() -> AsyncGenerator[bytes]:
        read.append(b"{")
        yield b"{"

    await asyncio.gather(*(client.get(JOBS, headers=key) for _ in range(RATE.burst)))
    headers = key | {"Content-Type": "application/json"}
    answer = await client.post("/api/v1/generate", content=body(), headers=headers)

    assert (answer.status_code, read) == (429, [])


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_several_processes_share_one_rate(
    processes: list[Runtime], client_of: ClientOf, key_of: KeyOf, clock: Clock
) -> None:
    """At most the tokens that each process holds in advance are missing."""
    key = await key_of()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(rt)) for rt in processes]
        rounds = []
        for _ in range(4):
            wanted = (clients[n % PROCESSES].get(JOBS, headers=key) for n in range(300))
            answers = await asyncio.gather(*wanted)
            rounds.append(sum(answer.status_code == 200 for answer in answers))
            clock.tick(seconds=5)

    ahead = PROCESSES * (RATE.lease - 1)
    assert rounds[0] <= RATE.burst
    assert sum(rounds) <= RATE.burst + 3 * 50
    assert sum(rounds) >= RATE.burst + 3 * 50 - ahead


async def test_tokens_in_advance_are_the_only_excess(
    processes: list[Runtime], clock: Clock
) -> None:
    """The worst case: each process holds them, and the bucket is full again."""
    each = [RequestRates(rt) for rt in processes]
    for rates in each:
        await rates.take("k", RATE)
    clock.tick(minutes=10)

    quotas = await asyncio.gather(*(each[n % PROCESSES].take("k", RATE) for n in range(600)))

    served = sum(quota.wait is None for quota in quotas)
    assert served == RATE.burst + PROCESSES * (RATE.lease - 1)


async def test_one_request_in_many_queries_the_database(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others, refusals included, are decided from memory."""
    asked: list[int] = []
    take = request_rates.take

    async def counted(
        db: Database, bucket: str, rate: RequestRate, tokens: int, **options: Any
    ) -> Any:
        asked.append(tokens)
        return await take(db, bucket, rate, tokens, **options)

    monkeypatch.setattr(request_rates, "take", counted)
    rates = RequestRates(rt)

    quotas = [await rates.take("k", RATE) for _ in range(200)]

    assert sum(quota.wait is None for quota in quotas) == RATE.burst
    assert asked == [RATE.lease] * 6  # no token is left for the last one


async def test_requests_are_counted_during_a_database_outage(
    rt: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each process alone; reads must be neither refused nor delayed each time."""
    tried: list[str] = []

    async def fails(_db: Database, bucket: str, *_: Any, **__: Any) -> Any:
        tried.append(bucket)
        raise DatabaseUnavailable("locked")

    with monkeypatch.context() as patch:
        patch.setattr(request_rates, "take", fails)
        rates = RequestRates(rt)
        quotas = [await rates.take("k", RATE) for _ in range(150)]

    assert sum(quota.wait is None for quota in quotas) == RATE.burst
    assert len(tried) == 1
    clock.tick(minutes=1)
    assert (await rates.take("k", RATE)).remaining == RATE.burst - 1
    stored = await request_rates.take(rt.db, "k", RATE, RATE.burst, now=clock())
    assert stored.tokens == RATE.burst - RATE.lease


async def test_a_locked_database_delays_one_request_only(rt: Runtime) -> None:
    """The write lock of SQLite is taken, and reads continue."""
    rates = RequestRates(rt, patience=timedelta(milliseconds=1))
    async with rt.db.write() as tx:
        await tx.exec_driver_sql("UPDATE roles SET name = name")
        quotas = [await rates.take("k", RATE) for _ in range(RATE.burst + 1)]

    assert [quota.wait is None for quota in quotas] == [True] * RATE.burst + [False]


async def test_a_disconnected_caller_does_not_stop_the_others(rt: Runtime) -> None:
    """They wait for the same tokens."""
    rates = RequestRates(rt)
    first = asyncio.create_task(rates.take("k", RATE))
    second = asyncio.create_task(rates.take("k", RATE))
    await asyncio.sleep(0)
    first.cancel()

    assert (await second).remaining == RATE.burst - 1


async def test_old_buckets_are_dropped(rt: Runtime, clock: Clock) -> None:
    """From memory if there are too many, from the database if they are full."""
    rates = RequestRates(rt, most=2)
    for name in "abc":
        await rates.take(name, RATE)

    assert len(rates) == 2
    clock.tick(minutes=1)
    assert await request_rates.remove_full(rt.db, before=clock()) == 3
    await request_rates.take(rt.db, "d", RATE, 1, now=clock())
    clock.tick(seconds=RATES_KEPT.total_seconds() + 60)
    await Retention(replace(rt, settings=rt.settings)).turn()
    assert await request_rates.remove_full(rt.db, before=clock() + timedelta(days=1)) == 0


async def test_probes_pages_and_callbacks_are_not_limited(
    client: httpx2.AsyncClient, key_of: KeyOf
) -> None:
    """Monitoring and the results of paid predictions must always get through."""
    key = await key_of()

    for path in ("/livez", "/readyz", "/health", "/", "/docs", "/openapi.json"):
        assert "ratelimit" not in (await client.get(path, headers=key)).headers
    callback = await client.post("/webhooks/replicate/unknown", headers=key, content=b"{}")
    assert "ratelimit" not in callback.headers


async def test_zero_is_no_limit(rt: Runtime, client_of: ClientOf, key_of: KeyOf) -> None:
    """No header mentions a limit."""
    unlimited = rt.settings.model_copy(update={"rate_per_minute": 0})
    key = await key_of()

    async with client_of(replace(rt, settings=unlimited)) as client:
        answer = await client.get(JOBS, headers=key)

    assert answer.status_code == 200
    assert "ratelimit" not in answer.headers


async def test_callers_without_a_key_are_counted_by_address(
    rt: Runtime, client_of: ClientOf
) -> None:
    """By the address that the proxy reports; the machine itself is not limited."""
    few = rt.settings.model_copy(update={"rate_per_minute": 6})

    async with client_of(replace(rt, settings=few)) as client:
        statuses = [
            (await client.get(JOBS, headers={"X-Forwarded-For": address})).status_code
            for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "::1", "::1")
        ]
        local = [(await client.get(JOBS)).status_code for _ in range(3)]

    assert statuses == [200, 429, 200, 200, 200]
    assert local == [200, 200, 200]


@pytest.mark.parametrize(
    ("caller", "address", "bucket"),
    [
        (Caller("acme", "abc", frozenset()), "192.0.2.1", "abc"),
        (Caller("default", "setting:shop", frozenset()), None, "setting:shop"),
        (ANONYMOUS, "192.0.2.1", "address:192.0.2.1"),
        (ANONYMOUS, "::ffff:192.0.2.1", "address:192.0.2.1"),
        (ANONYMOUS, "2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::"),
        (ANONYMOUS, "fe80::1%eth0", "address:fe80::"),
        (ANONYMOUS, "127.0.0.1", None),
        (ANONYMOUS, "::1", None),
        (ANONYMOUS, None, None),
        (ANONYMOUS, "a socket", None),
        (Caller("acme", None, frozenset({Scope.MEDIA_READ})), "192.0.2.1", None),
    ],
)
def test_the_identity_of_a_caller_in_the_rate_limiter(
    caller: Caller, address: str | None, bucket: str | None
) -> None:
    """Its key, or else its address; of IPv6, the network of one customer."""
    assert bucket_of(caller, address) == bucket


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_signed_addresses_are_not_limited(
    rt: Runtime, client: httpx2.AsyncClient, key_of: KeyOf, complete: Any
) -> None:
    """A page with many images loads all of them."""
    await key_of()
    job = await complete()
    await media_links.prepare(rt)
    name = f"{job.id}.png"
    query = media_links.query(rt.keys.media_secret, name, now=rt.now())

    answers = [await client.get(f"/media/{name}{query}") for _ in range(RATE.burst + 1)]

    assert {answer.status_code for answer in answers} == {200}
