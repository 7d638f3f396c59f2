"""The bucket through the configured proxy, and never through one of the environment."""

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
class Recorder:
    """Record the first line of each request, and disconnect."""

    requests: list[bytes] = field(default_factory=list)

    async def visit(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.requests.append(await reader.readline())


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_only_the_configured_proxy_is_used(
    monkeypatch: pytest.MonkeyPatch, *, ours: bool
) -> None:
    """Signed requests are not sent to an unintended host."""
    bucket, others, own = Recorder(), Recorder(), Recorder()
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

    assert others.requests == []
    assert bool(own.requests) is ours
    assert bool(bucket.requests) is not ours
