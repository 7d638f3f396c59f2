"""Files: whole, in parts, cached, and never executed as a page of the service."""

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from fleek.domain.errors import StorageError
from fleek.domain.job import Job, Status
from fleek.domain.media import Key, metadata_key
from fleek.engine.runtime import Runtime
from fleek.storage.base import Link, Storage

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]

DATA = bytes(range(256)) * 2000  # more than one chunk of the storage
PNG = (DATA, "image/png", "png")


@pytest.mark.parametrize("route", ["/media/{}.png", "/api/v1/download/{}"])
async def test_a_file_is_returned_byte_for_byte(
    client: httpx2.AsyncClient, complete: Make, route: str
) -> None:
    """With its type and length."""
    job = await complete(PNG)

    answer = await client.get(route.format(job.id))

    assert answer.status_code == 200
    assert answer.content == DATA
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["accept-ranges"] == "bytes"


async def test_media_are_inline_and_downloads_are_attachments(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """The file name contains the id only."""
    job = await complete(PNG)

    shown = await client.get(f"/media/{job.id}.png")
    saved = await client.get(f"/api/v1/download/{job.id}")

    assert shown.headers["content-disposition"] == f'inline; filename="{job.id}.png"'
    assert saved.headers["content-disposition"] == f'attachment; filename="{job.id}.png"'
    assert shown.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("content_type", "extension"),
    [("image/svg+xml", "svg"), ("text/html", "html"), ("application/octet-stream", "bin")],
)
async def test_active_content_is_always_an_attachment(
    client: httpx2.AsyncClient, complete: Make, content_type: str, extension: str
) -> None:
    """Outputs are untrusted, and would run under the service's origin."""
    job = await complete((b"<script>alert(1)</script>", content_type, extension))

    answer = await client.get(f"/media/{job.id}.{extension}")

    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-site"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_an_image_may_be_embedded_by_other_sites(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """Callers use results on their own pages."""
    job = await complete(PNG)

    answer = await client.get(f"/media/{job.id}.png")

    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_each_output_has_its_own_address(client: httpx2.AsyncClient, complete: Make) -> None:
    """The first one has the plain name."""
    job = await complete((b"one", "image/png", "png"), (b"two", "text/plain", "txt"))

    shown = await client.get(f"/media/{job.id}-1.txt")
    saved = await client.get(f"/api/v1/download/{job.id}?index=1")

    assert shown.content == saved.content == b"two"
    assert shown.headers["content-type"] == "text/plain; charset=utf-8"
    assert f'filename="{job.id}-1.txt"' in saved.headers["content-disposition"]


@pytest.mark.parametrize(
    "name",
    ["{}.jpg", "{}-0.png", "{}-1.png", "{}-01.png", "{}", "{}.png.html", "{}.PNG", "x.png"],
)
async def test_only_the_canonical_name_finds_a_file(
    client: httpx2.AsyncClient, complete: Make, name: str
) -> None:
    """Two names would be two entries in every cache, one with a wrong extension."""
    job = await complete(PNG)

    answer = await client.get("/media/" + name.format(job.id))

    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


async def test_a_missing_output_is_not_found(client: httpx2.AsyncClient, complete: Make) -> None:
    """The job exists, but not its tenth file."""
    job = await complete(PNG)

    answer = await client.get(f"/api/v1/download/{job.id}?index=9")

    assert answer.status_code == 404


RANGES = {
    "beginning": ("bytes=0-9", 0, 10),
    "middle": ("bytes=100-299999", 100, 300_000),
    "to the end": ("bytes=511000-", 511_000, len(DATA)),
    "beyond the end": ("bytes=511000-99999999", 511_000, len(DATA)),
    "last bytes": ("bytes=-10", len(DATA) - 10, len(DATA)),
    "more last bytes than there are": ("bytes=-99999999", 0, len(DATA)),
    "capital letters": ("Bytes=0-0", 0, 1),
}


@pytest.mark.parametrize(("asked", "start", "stop"), RANGES.values(), ids=RANGES.keys())
async def test_a_range_is_served(
    client: httpx2.AsyncClient, complete: Make, asked: str, start: int, stop: int
) -> None:
    """Players seek, and downloads are resumed."""
    job = await complete(PNG)

    answer = await client.get(f"/media/{job.id}.png", headers={"Range": asked})

    assert answer.status_code == 206
    assert answer.content == DATA[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=5-1",
        "bytes=-",
        "bytes=a-b",
        "lines=1-2",
        "bytes=0-0,2-2",
        "bytes=" + ",".join(["0-0"] * 5000),
        "bytes=0-" + "9" * 30,
        "bytes=\xb2-\xb3",
    ],
    ids=["backwards", "empty", "letters", "lines", "two", "5000", "30 digits", "other digits"],
)
async def test_an_unsupported_range_gives_the_whole_file(
    client: httpx2.AsyncClient, complete: Make, asked: str
) -> None:
    """The RFC allows a server to ignore ranges."""
    job = await complete(PNG)

    header = (b"Range", asked.encode("latin-1"))
    answer = await client.get(f"/media/{job.id}.png", headers=[header])

    assert answer.status_code == 200
    assert answer.content == DATA


@pytest.mark.parametrize("asked", ["bytes=512000-", "bytes=999999-1000000", "bytes=-0"])
async def test_a_range_behind_the_end_is_refused(
    client: httpx2.AsyncClient, complete: Make, asked: str
) -> None:
    """The error contains the length of the file."""
    job = await complete(PNG)

    answer = await client.get(f"/media/{job.id}.png", headers={"Range": asked})

    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"
    assert answer.json()["code"] == "range_not_satisfiable"


@pytest.mark.parametrize(
    ("if_range", "status"),
    [("{}", 206), ('"other"', 200), ("W/{}", 200), ("Sat, 21 Nov 2026 00:00:00 GMT", 200)],
)
async def test_a_range_of_another_version_is_not_served(
    client: httpx2.AsyncClient, complete: Make, if_range: str, status: int
) -> None:
    """Halves of two files do not fit together."""
    job = await complete(PNG)
    etag = (await client.head(f"/media/{job.id}.png")).headers["etag"]

    answer = await client.get(
        f"/media/{job.id}.png",
        headers={"Range": "bytes=0-9", "If-Range": if_range.format(etag)},
    )

    assert answer.status_code == status


@pytest.mark.parametrize("given", ["{}", "W/{}", '"a", {}', "*"])
async def test_a_cached_file_is_not_sent_again(
    client: httpx2.AsyncClient, complete: Make, given: str
) -> None:
    """Files never change."""
    job = await complete(PNG)
    etag = (await client.head(f"/media/{job.id}.png")).headers["etag"]

    answer = await client.get(
        f"/media/{job.id}.png", headers={"If-None-Match": given.format(etag)}
    )

    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"] == etag


async def test_another_version_is_sent(client: httpx2.AsyncClient, complete: Make) -> None:
    """The caller's tag does not match."""
    job = await complete(PNG)
    tags = ", ".join(f'"{number}"' for number in range(1000))

    answer = await client.get(f"/media/{job.id}.png", headers={"If-None-Match": tags})

    assert answer.status_code == 200


async def test_head_of_a_file_has_its_headers(client: httpx2.AsyncClient, complete: Make) -> None:
    """Clients can read the length without the content."""
    job = await complete(PNG)

    head = await client.head(f"/media/{job.id}.png")
    whole = await client.get(f"/media/{job.id}.png")

    assert head.content == b""
    assert {**head.headers, "x-request-id": ""} == {**whole.headers, "x-request-id": ""}


@pytest.mark.parametrize("route", ["/api/v1/download/{}", "/api/v1/jobs/{}/metadata"])
@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED, Status.CANCELLED])
async def test_a_job_without_files_is_a_conflict(
    client: httpx2.AsyncClient, make: Make, status: Status, route: str
) -> None:
    """The job exists without files, for now or for ever."""
    job = await make(status)

    answer = await client.get(route.format(job.id))

    assert answer.status_code == 409
    assert answer.json()["code"] == "not_completed"


@pytest.mark.parametrize(
    "route", ["/media/{}.png", "/api/v1/download/{}", "/api/v1/jobs/{}/metadata"]
)
async def test_removed_files_are_gone(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make, route: str
) -> None:
    """410 and not 404: they existed."""
    job = await complete(PNG, purged_at=rt.now(), metadata_purged_at=rt.now())

    answer = await client.get(route.format(job.id))

    assert answer.status_code == 410
    assert answer.json()["code"] == "gone"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_file_missing_in_storage_is_not_found(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make, method: str
) -> None:
    """The error is a problem document, before the first byte."""
    job = await complete(PNG)
    async for stored in rt.storage.keys("media"):
        await rt.storage.delete(stored.key)

    answer = await client.request(method, f"/media/{job.id}.png")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_metadata_document_is_served(client: httpx2.AsyncClient, complete: Make) -> None:
    """As it was stored, whatever this release would write."""
    job = await complete(document=b'{"prompt":"A cat","width":64}')

    answer = await client.get(f"/api/v1/jobs/{job.id}/metadata")

    assert answer.json() == {"prompt": "A cat", "width": 64}
    assert answer.headers["content-type"] == "application/json"


async def test_a_missing_metadata_document_is_not_found(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make
) -> None:
    """Media and metadata may have different retentions."""
    job = await complete()
    await rt.storage.delete(metadata_key(job.id))

    answer = await client.get(f"/api/v1/jobs/{job.id}/metadata")

    assert answer.status_code == 404


@dataclass
class RemoteStorage:
    """A storage that serves its files by itself, or cannot be read at all."""

    storage: Storage
    link: Link | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    async def url(self, _key: Key) -> Link | None:
        """Return the file's address, if there is one."""
        return self.link

    async def read(self, key: Key, **_: Any) -> AsyncIterator[bytes]:
        """Fail at the first byte."""
        if key:
            raise StorageError("/secret/path: Input/output error")
        yield b""


LINK = Link("https://bucket.example/signed", timedelta(minutes=30))


async def test_a_storage_may_serve_its_files_itself(
    rt: Runtime, complete: Make, client_of: ClientOf
) -> None:
    """The bytes do not pass through the service, and caches must not outlive the address."""
    job = await complete(PNG)
    storage: Any = RemoteStorage(rt.storage, LINK)

    async with client_of(replace(rt, storage=storage)) as client:
        answer = await client.get(f"/media/{job.id}.png")

    assert answer.status_code == 302
    assert answer.headers["location"] == LINK.address
    assert answer.headers["cache-control"] == "private, max-age=1800"


async def test_an_address_may_lead_nowhere_else(
    rt: Runtime, complete: Make, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some clients send their key to a file's address, which a bucket refuses, or follow nothing."""
    job = await complete(PNG)
    storage: Any = RemoteStorage(rt.storage, LINK)
    monkeypatch.setattr(storage, "read", rt.storage.read, raising=False)

    async with client_of(replace(rt, storage=storage)) as client:
        headers = {"Authorization": "Bearer r8_theirs"}
        answer = await client.get(f"/media/{job.id}.png?redirect=false", headers=headers)

    assert (answer.status_code, answer.content) == (200, DATA)


async def test_a_short_lived_address_is_not_cached(
    rt: Runtime, complete: Make, client_of: ClientOf
) -> None:
    """An expiry within a second leaves no time for a cache."""
    job = await complete(PNG)
    storage: Any = RemoteStorage(rt.storage, replace(LINK, fresh=timedelta(seconds=0.5)))

    async with client_of(replace(rt, storage=storage)) as client:
        answer = await client.get(f"/media/{job.id}.png")

    assert answer.headers["cache-control"] == "no-store"


async def test_head_of_a_remote_file_is_answered_locally(
    rt: Runtime, complete: Make, client_of: ClientOf
) -> None:
    """An address signed for GET refuses HEAD."""
    job = await complete(PNG)
    storage: Any = RemoteStorage(rt.storage, LINK)

    async with client_of(replace(rt, storage=storage)) as client:
        answer = await client.head(f"/media/{job.id}.png")

    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(len(DATA))


async def test_an_unreadable_storage_is_unavailable(
    rt: Runtime, complete: Make, client_of: ClientOf
) -> None:
    """The error is temporary, and reveals no paths."""
    job = await complete(PNG)
    storage: Any = RemoteStorage(rt.storage)

    async with client_of(replace(rt, storage=storage)) as client:
        answer = await client.get(f"/media/{job.id}.png")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert "secret" not in answer.text
