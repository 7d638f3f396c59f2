"""Files of a bucket over HTTP: sent to it, or streamed from it."""

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
    """Return whether files go through us."""
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
    """Open a runtime that keeps files in a bucket."""
    server = shared_s3(services)
    for name, value in server.settings(server.make_bucket(), tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MEDIA_PROXY", proxy)
    async with open_runtime(Settings(database_url=settings.database_url)) as opened:
        yield opened


through_us = pytest.mark.parametrize("proxy", ["true"])


async def test_a_caller_is_sent_to_the_bucket(client: httpx2.AsyncClient, complete: Make) -> None:
    """The bytes do not pass through us, and are shown as we would show them."""
    job = await complete(PNG)

    sent = await client.get(f"/media/{job.id}.png")
    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as elsewhere:
        found = await elsewhere.get(sent.headers["location"])

    assert sent.status_code == 302
    assert sent.headers["cache-control"] == "private, max-age=1800"
    assert found.content == DATA
    assert found.headers["content-type"] == "image/png"
    assert found.headers["content-disposition"] == f'inline; filename="{job.id}.png"'


async def test_the_address_of_a_result_stays_ours(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """It is stored by callers; one that ends in an hour would be of no use to them."""
    job = await complete(PNG)

    body = (await client.get(f"/api/v1/jobs/{job.id}")).json()

    assert body["result_url"] == f"http://127.0.0.1:8000/media/{job.id}.png"


async def test_a_download_comes_from_us(client: httpx2.AsyncClient, complete: Make) -> None:
    """As an attachment, which the bucket would show in place."""
    job = await complete(PNG)

    answer = await client.get(f"/api/v1/download/{job.id}")

    assert answer.status_code == 200
    assert answer.content == DATA
    assert answer.headers["content-disposition"] == f'attachment; filename="{job.id}.png"'


async def test_the_document_lies_in_the_bucket_too(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make
) -> None:
    """Beside the media, below a folder of its own."""
    job = await complete(PNG)

    answer = await client.get(f"/api/v1/jobs/{job.id}/metadata")
    keys = {stored.key async for stored in rt.storage.keys("metadata/")}

    assert answer.json() == {"prompt": "A cat"}
    assert keys == {f"metadata/{job.id}.json"}


@through_us
async def test_a_bucket_may_stay_private(client: httpx2.AsyncClient, complete: Make) -> None:
    """Then a file is served as from a folder: with its tag, and our headers."""
    job = await complete(PNG)

    answer = await client.get(f"/media/{job.id}.png")
    tag = answer.headers["etag"]
    again = await client.get(f"/media/{job.id}.png", headers={"If-None-Match": tag})

    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert (again.status_code, again.content) == (304, b"")


@through_us
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=511000-", 511_000, None), ("bytes=-7", len(DATA) - 7, None)],
)
async def test_a_part_is_read_from_the_bucket(
    client: httpx2.AsyncClient, complete: Make, asked: str, start: int, stop: int | None
) -> None:
    """Players seek."""
    job = await complete(PNG)

    answer = await client.get(f"/media/{job.id}.png", headers={"Range": asked})

    assert answer.status_code == 206
    assert answer.content == DATA[start:stop]
