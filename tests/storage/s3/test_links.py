"""Addresses for callers: signed, public, or none."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from fleek.domain.media import Key
from fleek.storage.base import Storage
from fleek.storage.s3 import connect
from s3server import PATIENCE_SECONDS, SECRET

Save = Callable[..., Awaitable[None]]

PICTURE = Key("media/0190-a/0190-b/0-00ff.png")


async def test_a_signed_address_returns_the_file(storage: Storage, save: Save) -> None:
    """Without a key."""
    await save(storage, PICTURE, b"a picture")

    link = await storage.url(PICTURE)
    assert link is not None
    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        answer = await http.get(link.address)

    assert answer.content == b"a picture"
    assert answer.headers["content-disposition"] == 'inline; filename="0190-a.png"'
    assert SECRET not in link.address


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("X-Amz-Expires=60", "X-Amz-Expires=604800"),
        ("0-00ff.png", "1-00ff.png"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
        ("X-Amz-Date=2", "X-Amz-Date=1"),
    ],
    ids=["a longer life", "another file", "another signature", "another time"],
)
async def test_a_changed_address_returns_403(
    bucket: str, monkeypatch: pytest.MonkeyPatch, save: Save, old: str, new: str
) -> None:
    """The real server checks the signature, which includes the expiry of the setting."""
    assert bucket
    monkeypatch.setenv("S3_URL_EXPIRY", "60")
    async with connect() as storage:
        await save(storage, PICTURE, b"a picture")
        await save(storage, "media/0190-a/0190-b/1-00ff.png", b"another")
        link = await storage.url(PICTURE)

    assert link is not None
    assert old in link.address
    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        answer = await http.get(link.address.replace(old, new))

    assert answer.status_code == 403


async def test_an_address_is_cached_for_half_its_lifetime(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a cache could return one that expires before it is used."""
    assert bucket
    monkeypatch.setenv("S3_URL_EXPIRY", "600")

    async with connect() as storage:
        link = await storage.url(PICTURE)

    assert link is not None
    assert parse_qs(urlsplit(link.address).query)["X-Amz-Expires"] == ["600"]
    assert link.fresh == timedelta(seconds=300)


async def test_a_public_bucket_needs_no_signature(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one behind a CDN."""
    assert bucket
    monkeypatch.setenv("S3_PUBLIC_URL", "https://cdn.example/pictures/")

    async with connect() as storage:
        link = await storage.url(PICTURE)

    assert link is not None
    assert link.address == f"https://cdn.example/pictures/{PICTURE}"


async def test_files_may_be_proxied(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket in a private network has no address for callers."""
    assert bucket
    monkeypatch.setenv("MEDIA_PROXY", "true")
    monkeypatch.setenv("S3_PUBLIC_URL", "https://cdn.example")

    async with connect() as storage:
        link = await storage.url(PICTURE)

    assert link is None
