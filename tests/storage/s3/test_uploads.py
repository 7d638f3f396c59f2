"""The contents of the bucket after a save."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from fleek.domain.errors import StorageError
from fleek.domain.media import Key
from fleek.storage.base import Storage
from fleek.storage.s3 import S3Storage, connect
from fleek.storage.s3.bucket import MAX_PARTS, PART_BYTES, Bucket, part_bytes
from listening import listening, port_of
from s3server import S3Server

Save = Callable[..., Awaitable[None]]

JOB, ATTEMPT = "0190-a", "0190-b"
PICTURE = Key(f"media/{JOB}/{ATTEMPT}/0-00ff.png")
PATIENCE_SECONDS = 60
FILM_BYTES = 64 * 1024 * 1024
LARGE = bytes(range(256)) * (PART_BYTES // 256) * 2 + b"and a last part"


HEADERS = {
    "picture": (PICTURE, "image/png", "image/png", f'inline; filename="{JOB}.png"'),
    "active content": (
        f"media/{JOB}/{ATTEMPT}/2-00ff.svg",
        "image/svg+xml",
        "image/svg+xml",
        f'attachment; filename="{JOB}-2.svg"',
    ),
    "text": (
        f"media/{JOB}/{ATTEMPT}/1-00ff.txt",
        "text/plain",
        "text/plain; charset=utf-8",
        f'attachment; filename="{JOB}-1.txt"',
    ),
    "document": (
        f"metadata/{JOB}.json",
        "application/json",
        "application/json",
        f'attachment; filename="{JOB}.json"',
    ),
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())
async def test_stored_headers_make_files_safe_in_browsers(
    storage: Storage, seen: S3Store, save: Save, headers: tuple[str, str, str, str]
) -> None:
    """Browsers read from the bucket, where headers cannot be added."""
    key, content_type, shown_as, disposition = headers

    await save(storage, key, b"content", content_type)

    attributes = obstore.get(seen, key).attributes
    assert attributes["Content-Type"] == shown_as
    assert attributes["Content-Disposition"] == disposition


async def test_a_large_file_is_uploaded_in_parts(
    storage: Storage, seen: S3Store, save: Save
) -> None:
    """The tag of a multipart upload ends with the number of parts."""
    await save(storage, PICTURE, LARGE)

    found = obstore.get(seen, PICTURE)
    assert str(found.meta["e_tag"]).strip('"').endswith("-3")
    assert found.attributes["Content-Type"] == "image/png"
    assert hashlib.sha256(found.bytes()).digest() == hashlib.sha256(LARGE).digest()


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, 48 * 1024**3, 5 * 1024**4])
def test_parts_are_within_the_limits_of_s3(size: int) -> None:
    """Neither too many nor too small."""
    part = part_bytes(size)

    assert part >= PART_BYTES
    assert size / part <= MAX_PARTS


async def test_a_corrupted_upload_is_refused(
    server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, seen: S3Store, save: Save
) -> None:
    """The signature covers the SHA-256 of every part."""
    assert bucket
    async with tampering(server, b"the true bytes", b"the fake bytes") as url:
        monkeypatch.setenv("S3_ENDPOINT_URL", url)
        async with connect() as storage:
            with pytest.raises(StorageError, match="corrupted in transit"):
                await save(storage, PICTURE, b"these are the true bytes")

    with pytest.raises(FileNotFoundError):
        obstore.head(seen, PICTURE)


async def test_a_saved_file_is_compared_with_its_source(
    seen: S3Store, bucket: str, tmp_path: Path, save: Save
) -> None:
    """The response alone does not prove that the file was stored."""
    assert bucket
    forgetful: Any = Forgetful(seen)
    storage = S3Storage(forgetful, spool=tmp_path)

    with pytest.raises(StorageError, match="differs from what was sent"):
        await save(storage, PICTURE, b"content")

    storage.close()


class Forgetful(Bucket):
    """A bucket that reports one byte less than it received."""

    def _upload(self, key: Key, source: Path | bytes, *rest: Any) -> Any:
        size, tag, found = super()._upload(key, source, *rest)
        return size, tag, {**found, "size": size - 1}


async def test_an_abandoned_upload_is_aborted(seen: S3Store, bucket: str, tmp_path: Path) -> None:
    """A shutdown does not wait for it, and no partial file is visible."""
    assert bucket
    halted = Halted(seen)
    storage = S3Storage(halted, spool=tmp_path)
    source = tmp_path / "film"
    source.write_bytes(LARGE)

    saving = asyncio.create_task(storage.save(PICTURE, source, content_type="video/mp4"))
    assert await asyncio.to_thread(halted.begun.wait, PATIENCE_SECONDS)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    halted.go_on.set()
    await asyncio.to_thread(storage.close)

    assert not source.exists()
    with pytest.raises(FileNotFoundError):
        obstore.head(seen, PICTURE)


class Halted(Bucket):
    """A bucket that waits before it uploads."""

    def __init__(self, store: S3Store) -> None:
        super().__init__(store)
        self.begun, self.go_on = Event(), Event()

    def _upload(self, *arguments: Any) -> Any:
        self.begun.set()
        self.go_on.wait(PATIENCE_SECONDS)
        return super()._upload(*arguments)


async def test_a_very_large_file_is_streamed(storage: Storage) -> None:
    """It is never whole in memory, neither uploaded nor read."""
    source = storage.spool() / "film"
    with source.open("wb") as file:
        file.truncate(FILM_BYTES)

    before = peak_bytes(afresh=True)
    await storage.save(PICTURE, source, content_type="video/mp4")
    read = 0
    async for chunk in storage.read(PICTURE):
        read += len(chunk)
    after = peak_bytes()

    assert read == FILM_BYTES
    assert after - before < FILM_BYTES * 0.75


def peak_bytes(*, afresh: bool = False) -> int:
    """Return this process's peak memory since the last call with `afresh`."""
    if afresh:
        Path("/proc/self/clear_refs").write_text("5")
    line = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line is not None
    return int(line[1]) * 1024


@asynccontextmanager
async def tampering(server: S3Server, old: bytes, new: bytes) -> AsyncGenerator[str]:
    """Yield the address of a proxy to the server that replaces some bytes."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.replace(old, new))
            await writer.drain()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port_of(server.url))
        answers = asyncio.create_task(pump(there, writer))
        try:
            await pump(reader, back)
        finally:
            answers.cancel()
            back.transport.abort()

    async with listening(visit) as url:
        yield url
