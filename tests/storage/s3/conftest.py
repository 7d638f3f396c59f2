"""A bucket on a real S3 server, and the storage that uses it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest
from obstore.store import S3Store

from backing_services import Services
from fleek.domain.media import Key
from fleek.storage.base import Storage
from fleek.storage.s3 import connect
from s3server import S3Server, shared_s3

Save = Callable[..., Awaitable[None]]


@pytest.fixture
def server(_full_suite: None, services: Services) -> S3Server:
    """Return this run's server; other tests use it at the same time."""
    return shared_s3(services)


@pytest.fixture
def bucket(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of an empty bucket, which the environment configures."""
    name = server.make_bucket()
    for setting, value in server.settings(name, tmp_path).items():
        monkeypatch.setenv(setting, value)
    return name


@pytest.fixture
def seen(server: S3Server, bucket: str) -> S3Store:
    """Return the bucket, read without Fleek's storage."""
    return server.store(bucket)


@pytest.fixture
async def storage(bucket: str) -> AsyncGenerator[Storage]:
    """Return the storage, opened on that bucket."""
    assert bucket
    async with connect() as opened:
        yield opened


@pytest.fixture
def save() -> Save:
    """Return a function that saves bytes."""

    async def saved(
        storage: Storage, key: str, content: bytes, content_type: str = "image/png"
    ) -> None:
        source = storage.spool() / uuid4().hex
        source.write_bytes(content)
        await storage.save(Key(key), source, content_type=content_type)

    return saved
