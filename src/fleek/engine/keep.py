"""Outputs become files: streamed, hashed, sniffed, and only then given their name."""

import asyncio
import errno
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import NotFound, OutputBroken, OutputGone, StorageError, StorageFull
from fleek.domain.job import Job
from fleek.domain.media import Key, Media, Output, media_key
from fleek.engine.runtime import Runtime
from fleek.sniff import Sniffed, sniff

BUFFER_BYTES: Final = 1_048_576  # gathered before a write leaves the event loop


async def keep(rt: Runtime, job: Job, attempt: Attempt) -> Sequence[Media]:
    """Store all outputs of an attempt's prediction; the order is the provider's.

    Raises:
        StorageError: They cannot be kept now.
        ProviderError: They cannot be fetched; ``retryable`` says whether ever.
    """
    assert attempt.result is not None
    outputs = [Output.from_json(stored) for stored in attempt.result["outputs"]]
    return [
        await keep_one(rt, job, attempt, index, output) for index, output in enumerate(outputs)
    ]


async def keep_one(rt: Runtime, job: Job, attempt: Attempt, index: int, output: Output) -> Media:
    """Store one output: unique name, hash, sniffed type, then its final key.

    Raises:
        StorageError: It cannot be kept now.
        ProviderError: It cannot be fetched; ``retryable`` says whether ever.
    """
    spooled = rt.storage.spool() / f"{attempt.id}-{index}-{secrets.token_hex(8)}"
    try:
        size, digest = await _spool(_chunks(rt, job, output), spooled)
        failpoints.hit("keep.spooled")
        if size == 0:
            raise OutputBroken("the output is empty")
        found = await asyncio.to_thread(sniff, spooled)
        key = media_key(job.id, attempt.id, index, sha256=digest, extension=found.extension)
        await rt.storage.save(key, spooled, content_type=found.content_type)
        failpoints.hit("keep.saved")
    finally:
        await asyncio.to_thread(spooled.unlink, missing_ok=True)
    return _media(job, attempt, index, key=key, digest=digest, size=size, found=found)


def _chunks(rt: Runtime, job: Job, output: Output) -> AsyncIterator[bytes]:
    if output.key is not None:
        return _stored(rt, output.key)
    if output.text is not None:
        return _text(output.text)
    return rt.providers[job.provider].read(job, output)


async def _stored(rt: Runtime, key: Key) -> AsyncIterator[bytes]:
    try:
        async for chunk in rt.storage.read(key):
            yield chunk
    except NotFound as error:
        raise OutputGone("the output is not in storage any more") from error


async def _text(text: str) -> AsyncIterator[bytes]:
    yield text.encode("utf-8", "replace")


async def _spool(chunks: AsyncIterator[bytes], path: Path) -> tuple[int, str]:
    """Write a stream to a file; returns its size and sha256."""
    digest, size, buffer = hashlib.sha256(), 0, bytearray()

    def write(data: bytes) -> None:
        digest.update(data)
        with path.open("ab") as file:
            file.write(data)

    try:
        async for chunk in chunks:
            size += len(chunk)
            buffer += chunk
            if len(buffer) >= BUFFER_BYTES:
                await asyncio.to_thread(write, bytes(buffer))
                buffer.clear()
        await asyncio.to_thread(write, bytes(buffer))
    except OSError as error:
        raise spool_failed(error) from error
    return size, digest.hexdigest()


def _media(
    job: Job, attempt: Attempt, index: int, *, key: Key, digest: str, size: int, found: Sniffed
) -> Media:
    return Media(
        job_id=job.id,
        attempt_id=attempt.id,
        index=index,
        key=key,
        sha256=digest,
        size_bytes=size,
        content_type=found.content_type,
        width=found.width,
        height=found.height,
        duration_seconds=found.duration_seconds,
    )


def spool_failed(error: OSError) -> StorageError:
    """Say why a file could not be spooled, in our words."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull("the storage has no room left")
    return StorageError(f"the spool cannot be written: {error.strerror}")
