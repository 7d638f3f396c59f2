"""Files of a bucket over HTTP: by redirect, or streamed through the service."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx2
import pytest

from backing_services import Services
from fleek.bootstrap import open_runtime
from fleek.domain.job import Job
from fleek.engine.runtime import Runtime
from fleek.settings import Settings
from s3server import PATIENCE_SECONDS, shared_s3

Make = Callable[..., Coroutine[Any, Any, Job]]

DATA = bytes(range(256)) * 2000
PNG = (DATA, "image/png", "png")


@pytest.fixture
def proxy() -> str:
    """Return whether files pass through the service."""
    return "false"


@pytest.fixture
async def rt(
    _full_suite: None,
    settings: Settings,
    services: Services,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    proxy: str,
) -> AsyncGenerator[Runtime]:
    """Open a runtime that stores files in a bucket."""
    server = shared_s3(services)
    for name, value in server.settings(server.make_bucket(), tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MEDIA_PROXY", proxy)
    async with open_runtime(Settings(database_url=settings.database_url)) as opened:
        yield opened


proxied = pytest.mark.parametrize("proxy", ["true"])


async def test_a_caller_is_redirected_to_the_bucket(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """The bytes do not pass through the service, but have the same headers."""
    job = await complete(PNG)

    sent = await client.get(f"/media/{job.id}.png")
    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as elsewhere:
        found = await elsewhere.get(sent.headers["location"])

    assert sent.status_code == 302
    assert sent.headers["cache-control"] == "private, max-age=1800"
    assert found.content == DATA
    assert found.headers["content-type"] == "image/png"
    assert found.headers["content-disposition"] == f'inline; filename="{job.id}.png"'


async def test_the_address_of_a_result_is_the_service_s(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """Callers store it, and a signed one would expire in an hour."""
    job = await complete(PNG)

    body = (await client.get(f"/api/v1/jobs/{job.id}")).json()

    assert body["result_url"] == f"http://127.0.0.1:8000/media/{job.id}.png"


async def test_a_download_is_served_by_the_service(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """As an attachment; the bucket would show it inline."""
    job = await complete(PNG)

    answer = await client.get(f"/api/v1/download/{job.id}")

    assert answer.status_code == 200
    assert answer.content == DATA
    assert answer.headers["content-disposition"] == f'attachment; filename="{job.id}.png"'


async def test_the_metadata_document_is_stored_in_the_bucket(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make
) -> None:
    """Beside the media, below a prefix of its own."""
    job = await complete(PNG)

    answer = await client.get(f"/api/v1/jobs/{job.id}/metadata")
    keys = {stored.key async for stored in rt.storage.keys("metadata/")}

    assert answer.json() == {"prompt": "A cat"}
    assert keys == {f"metadata/{job.id}.json"}


@proxied
async def test_a_bucket_may_stay_private(client: httpx2.AsyncClient, complete: Make) -> None:
    """A file is served as from a folder then, with its tag and headers."""
    job = await complete(PNG)

    answer = await client.get(f"/media/{job.id}.png")
    tag = answer.headers["etag"]
    again = await client.get(f"/media/{job.id}.png", headers={"If-None-Match": tag})

    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert (again.status_code, again.content) == (304, b"")


@proxied
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=511000-", 511_000, None), ("bytes=-7", len(DATA) - 7, None)],
)
async def test_a_range_is_read_from_the_bucket(
    client: httpx2.AsyncClient, complete: Make, asked: str, start: int, stop: int | None
) -> None:
    """Players seek."""
    job = await complete(PNG)

    answer = await client.get(f"/media/{job.id}.png", headers={"Range": asked})

    assert answer.status_code == 206
    assert answer.content == DATA[start:stop]
