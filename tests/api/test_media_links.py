"""Signed addresses: a browser shows an image without a key for an hour, and nothing else."""

import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import pytest

from fleek.domain.access import Scope
from fleek.domain.job import Job
from fleek.engine import media_links
from fleek.engine.access import KeyCache, create_key
from fleek.engine.runtime import Runtime
from fleek.engine.signing import SecretBox
from fleek.store import jobs
from samples import NOON

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]

SECRET: Final = b"secret"


@pytest.fixture
async def keyed(rt: Runtime, client_of: ClientOf) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client with a key that reads jobs but no files."""
    _, key = await create_key(rt, name="test", tenant_id="default", scopes=[Scope.JOBS_READ])
    async with client_of(rt) as client:
        client.headers["X-API-Key"] = key
        yield client


def relative(url: str) -> str:
    """Return path and query of an address."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


async def test_the_address_of_a_file_needs_no_key(
    keyed: httpx2.AsyncClient, client: httpx2.AsyncClient, complete: Make
) -> None:
    """In a job, in its outputs, in a list and in the flat form."""
    job = await complete()
    read = (await keyed.get(f"/api/v1/jobs/{job.id}")).json()
    flat = (await keyed.get(f"/status/{job.id}")).json()
    (listed,) = (await keyed.get("/api/v1/jobs")).json()

    found = {
        read["result_url"],
        read["outputs"][0]["url"],
        flat["result_url"],
        listed["result_url"],
    }
    answers = [await client.get(relative(url)) for url in found]
    head = await client.head(relative(read["result_url"]))

    assert {answer.status_code for answer in answers} == {200} == {head.status_code}
    assert {answer.headers["cache-control"] for answer in answers} == {"private, max-age=3600"}


async def test_addresses_are_unsigned_without_keys(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """Any cache may store them for ever."""
    job = await complete()

    url = (await client.get(f"/api/v1/jobs/{job.id}")).json()["result_url"]
    answer = await client.get(urlsplit(url).path)

    assert "?" not in url
    assert answer.headers["cache-control"].startswith("public")


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"\?.*", ""),
        (r"&sig.*", ""),
        (r"exp=\d+", "exp=9999999999"),
        (r"exp=\d+", "exp=x"),
        (r"sig=.", "sig="),
        (r"sig=.*", "sig=é"),
        (r"$", "="),
    ],
)
async def test_a_changed_address_is_refused(
    keyed: httpx2.AsyncClient,
    client: httpx2.AsyncClient,
    complete: Make,
    pattern: str,
    replacement: str,
) -> None:
    """With the response for a missing key."""
    job = await complete()
    url = relative((await keyed.get(f"/api/v1/jobs/{job.id}")).json()["result_url"])

    answer = await client.get(re.sub(pattern, replacement, url))

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_a_signature_is_for_one_file(
    keyed: httpx2.AsyncClient, client: httpx2.AsyncClient, complete: Make
) -> None:
    """And for `/media` only: not for a download, nor for another job of the tenant."""
    png = (b"\x89PNG\r\n\x1a\n", "image/png", "png")
    job = await complete(png, png)
    url = relative((await keyed.get(f"/api/v1/jobs/{job.id}")).json()["result_url"])
    path, _, query = url.partition("?")

    others = [f"{path.removesuffix('.png')}-1.png?{query}", f"/api/v1/jobs/{job.id}?{query}"]
    statuses = [(await client.get(other)).status_code for other in others]

    assert (await client.get(url)).status_code == 200
    assert statuses == [401, 401]


async def test_a_signature_adds_to_a_key_without_the_scope(
    keyed: httpx2.AsyncClient, client: httpx2.AsyncClient, complete: Make
) -> None:
    """Such a key reads no file alone, but does with a signature beside it."""
    job = await complete()
    url = relative((await keyed.get(f"/api/v1/jobs/{job.id}")).json()["result_url"])

    plain = await keyed.get(url.partition("?")[0])
    signed = await keyed.get(url)

    assert (plain.status_code, plain.json()["code"]) == (403, "insufficient_scope")
    assert signed.status_code == 200
    assert (await client.get(url)).status_code == 200


def test_a_signature_expires() -> None:
    """After at least an hour, and at most 70 minutes."""
    query = media_links.query(SECRET, "x.png", now=NOON)
    _, expiry, signature = re.split(r"\?exp=|&sig=", query)

    def valid(after: timedelta) -> bool:
        return media_links.is_valid(SECRET, "x.png", expiry, signature, now=NOON + after)

    assert valid(timedelta(seconds=3600))
    assert not valid(timedelta(seconds=4200))
    assert not media_links.is_valid(None, "x.png", expiry, signature, now=NOON)
    assert not media_links.is_valid(b"other", "x.png", expiry, signature, now=NOON)


def test_an_address_stays_the_same_for_minutes() -> None:
    """Otherwise browsers could not cache the file."""
    addresses = {
        media_links.query(SECRET, "x.png", now=NOON + timedelta(seconds=second))
        for second in range(0, 600, 50)
    }

    assert len(addresses) == 1


async def test_all_processes_have_the_same_secret(rt: Runtime, keyed: httpx2.AsyncClient) -> None:
    """Also when it is encrypted by `MASTER_KEY`, whichever process creates it."""
    assert keyed.headers["x-api-key"]
    box = SecretBox([bytes(32)])
    first = replace(rt, keys=KeyCache(), secret_box=box)
    second = replace(rt, keys=KeyCache(), secret_box=box)

    await media_links.prepare(first)
    await media_links.prepare(second)

    assert first.keys.media_secret is not None
    assert first.keys.media_secret == second.keys.media_secret


async def test_an_undecryptable_secret_affects_files_only(
    rt: Runtime, keyed: httpx2.AsyncClient, client_of: ClientOf, complete: Make
) -> None:
    """A lost `MASTER_KEY` stops nothing else."""
    job = await complete()
    await media_links.prepare(replace(rt, keys=KeyCache(), secret_box=SecretBox([bytes(32)])))

    async with client_of(replace(rt, keys=KeyCache())) as client:
        client.headers.update(keyed.headers)
        read = await client.get(f"/api/v1/jobs/{job.id}")

    assert read.status_code == 200
    assert "?" not in read.json()["result_url"]


async def test_addresses_in_webhooks_are_signed(
    rt: Runtime, keyed: httpx2.AsyncClient, complete: Make
) -> None:
    """Receivers fetch the file without a key."""
    job = await complete()
    read = (await keyed.get(f"/api/v1/jobs/{job.id}")).json()
    view = await jobs.get(rt.db, job.id, tenant_id="default")
    body = rt.presenter.body("completed", view.job, view.media).decode()

    assert urlsplit(read["result_url"]).path in body
    assert "&sig=" in body
