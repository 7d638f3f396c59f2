"""The bucket through a proxy: ours, and never one that the environment names."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from fleek.domain.errors import StorageError
from fleek.storage.s3.bucket import open_store
from fleek.storage.s3.errors import translated
from fleek.storage.s3.settings import S3Settings
from listening import listening


@dataclass
class Ear:
    """Notes the first line of each request, and hangs up."""

    heard: list[bytes] = field(default_factory=list)

    async def visit(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.heard.append(await reader.readline())


@pytest.mark.parametrize("ours", [True, False])
async def test_only_our_own_proxy_is_used(monkeypatch: pytest.MonkeyPatch, *, ours: bool) -> None:
    """What is signed with the keys goes to nobody whom nobody named here."""
    bucket, others, own = Ear(), Ear(), Ear()
    async with (
        listening(bucket.visit) as endpoint,
        listening(others.visit) as stray,
        listening(own.visit) as proxy,
    ):
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, stray)
        settings = S3Settings(
            S3_BUCKET="abc",
            S3_ENDPOINT_URL=endpoint,
            S3_ACCESS_KEY_ID="a",
            S3_SECRET_ACCESS_KEY="b",
            s3_proxy=proxy if ours else None,
            s3_timeout=timedelta(seconds=5),
        )
        store = open_store(settings)
        with pytest.raises(StorageError), translated("look"):
            await store.get_async("x")

    assert others.heard == []
    assert bool(own.heard) is ours
    assert bool(bucket.heard) is not ours
