"""Signed addresses that take a file: they count by the key that asked for them, and end with it."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import pytest

from fakes import PNG, Clock
from fleek.domain.access import Scope
from fleek.domain.api_keys import ApiKey
from fleek.engine.access import create_key, revoke_key
from fleek.engine.runtime import Runtime

ClientOf = Callable[[Runtime], httpx2.AsyncClient]
Answer = Coroutine[Any, Any, httpx2.Response]

ANNOUNCED: Final = {"content_type": "image/png", "file_name": "cat.png"}


@pytest.fixture
def rt(rt: Runtime, clock: Clock) -> Runtime:
    """Return a runtime whose caches use this clock."""
    return replace(rt, steady=clock.steady)


async def a_key(rt: Runtime, tenant_id: str = "acme") -> tuple[ApiKey, str]:
    """Create a key that may submit jobs."""
    return await create_key(rt, name="test", tenant_id=tenant_id, scopes=[Scope.JOBS_WRITE])


def asked(client: httpx2.AsyncClient, key: str | None) -> Answer:
    """Ask for the address of a file."""
    headers = {} if key is None else {"Authorization": f"Key {key}"}
    return client.post("/fal/storage/upload/initiate", json=ANNOUNCED, headers=headers)


def sent(client: httpx2.AsyncClient, asked: httpx2.Response, *, peer: str = "::1") -> Answer:
    """Send a file to the address that was given."""
    parts = urlsplit(asked.json()["upload_url"])
    path = f"{parts.path}?{parts.query}".rstrip("?")
    return client.put(path, content=PNG, headers={"X-Forwarded-For": peer})


async def test_an_address_ends_with_the_key_that_asked_for_it(
    rt: Runtime, client: httpx2.AsyncClient, clock: Clock
) -> None:
    """Another key of the same tenant does not help; the refusal says what to do."""
    key, secret = await a_key(rt)
    await a_key(rt)
    first, second = await asked(client, secret), await asked(client, secret)

    before = await sent(client, first)
    await revoke_key(rt, key.id)
    clock.tick(seconds=0.5)
    after = await sent(client, second)

    assert (before.status_code, after.status_code) == (200, 401)
    assert "ask for a new one" in after.json()["detail"]


async def test_files_by_address_count_for_the_key(rt: Runtime, client_of: ClientOf) -> None:
    """Wherever they come from: the callers of another key go on."""
    one = rt.settings.model_copy(update={"rate_per_minute": 6})
    (_, ours), (_, theirs) = await a_key(rt), await a_key(rt)

    async with client_of(replace(rt, settings=one)) as client:
        given = await asked(client, ours)
        answers = [
            await sent(client, given, peer="192.0.2.9"),
            await asked(client, theirs),
        ]

    assert given.status_code == 200
    assert [answer.status_code for answer in answers] == [429, 200]


async def test_without_keys_an_address_needs_no_signature(client: httpx2.AsyncClient) -> None:
    """Nobody needs a key then."""
    given = await asked(client, None)

    assert urlsplit(given.json()["upload_url"]).query == ""
    assert (await sent(client, given)).status_code == 200


async def test_no_address_is_given_that_cannot_be_signed(
    rt: Runtime, client: httpx2.AsyncClient
) -> None:
    """It would be refused: the answer says so at once, in fal's form."""
    _, secret = await a_key(rt)
    rt.keys.media_secret_after = float("inf")  # as if no MASTER_KEY decrypted it

    refused = await asked(client, secret)

    assert refused.status_code == 503
    assert "/api/v1/uploads" in refused.json()["detail"]
    assert set(refused.json()) == {"detail"}


async def test_an_address_from_before_the_first_key_is_refused(
    rt: Runtime, client: httpx2.AsyncClient, clock: Clock
) -> None:
    """It has no signature."""
    given = await asked(client, None)
    await a_key(rt)
    clock.tick(seconds=0.5)

    assert (await sent(client, given)).status_code == 401
