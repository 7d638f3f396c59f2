"""Outputs become files: streamed, hashed, sniffed, and only then given their name."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import (
    NotFound,
    OutputBroken,
    OutputMissing,
    OutputUnsafe,
    ProviderUnavailable,
    StorageFull,
)
from fleek.domain.job import Job
from fleek.domain.long_text import LongText, pieces_of
from fleek.domain.media import Key, Media, Output, media_key
from fleek.engine.runtime import Runtime
from fleek.engine.spool import spool_file
from fleek.sniff import Sniffed, sniff

BUFFER_BYTES: Final = 1_048_576  # gathered before a write leaves the event loop


async def store_outputs(
    rt: Runtime, job: Job, attempt: Attempt, outputs: Sequence[Output]
) -> Sequence[Media]:
    """Store all outputs of an attempt's prediction; the order is the provider's.

    Raises:
        HostError: They cannot be kept now.
        ProviderError: They cannot be fetched; ``retryable`` says whether ever.
    """
    left = rt.settings.max_job_bytes
    kept: list[Media] = []
    for index, output in enumerate(outputs):
        media = await store_output(rt, job, attempt, index, output, most=left)
        left -= media.size_bytes
        kept.append(media)
    return kept


async def store_output(
    rt: Runtime, job: Job, attempt: Attempt, index: int, output: Output, *, most: int
) -> Media:
    """Store one output of at most so many bytes: unique name, hash, sniffed type, its final key.

    Raises:
        HostError: It cannot be kept now.
        ProviderError: It cannot be fetched; ``retryable`` says whether ever.
    """
    async with spool_file(rt, f"{attempt.id}-{index}") as spooled:
        size, digest = await _spool(rt, _chunks(rt, job, output), spooled, most=most)
        failpoints.hit("keep.spooled")
        if size == 0:
            raise OutputBroken("the output is empty")
        found = await asyncio.to_thread(sniff, spooled)
        key = media_key(job.id, attempt.id, index, sha256=digest, extension=found.extension)
        await rt.storage.save(key, spooled, content_type=found.content_type)
        failpoints.hit("keep.saved")
    return _media(job, attempt, index, key=key, digest=digest, size=size, found=found)


def _chunks(rt: Runtime, job: Job, output: Output) -> AsyncIterator[bytes]:
    if output.key is not None:
        return _stored(rt, output.key)
    if output.text is not None:
        return _text(output.text)
    if output.uri is None:
        raise OutputMissing("the output is at the provider only, which did not tell of it")
    provider = rt.providers.get(job.provider)
    if provider is None:
        message = f"the provider {job.provider} is not configured here"
        raise ProviderUnavailable(message, code="provider_not_configured")
    return provider.read(job, output)


async def _stored(rt: Runtime, key: Key) -> AsyncIterator[bytes]:
    try:
        async for chunk in rt.storage.read(key):
            yield chunk
    except NotFound as error:
        raise OutputMissing("the output is not in storage any more") from error


async def _text(text: str | LongText) -> AsyncIterator[bytes]:
    pieces = pieces_of(text)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece.encode("utf-8", "replace")


async def _spool(
    rt: Runtime, chunks: AsyncIterator[bytes], path: Path, *, most: int
) -> tuple[int, str]:
    """Write a stream to a file; returns its size and sha256."""
    digest, size, buffer = hashlib.sha256(), 0, bytearray()

    def write(data: bytes) -> None:
        if shutil.disk_usage(path.parent).free < rt.settings.min_free_bytes + len(data):
            raise StorageFull("less than MIN_FREE_BYTES would be left on the spool's disk")
        digest.update(data)
        with path.open("ab") as file:
            file.write(data)

    async for chunk in chunks:
        size += len(chunk)
        if size > most:
            limit = f"MAX_JOB_BYTES={rt.settings.max_job_bytes}"
            raise OutputUnsafe(f"the outputs are larger than {limit}", code="output_too_large")
        buffer += chunk
        if len(buffer) >= BUFFER_BYTES:
            await asyncio.to_thread(write, bytes(buffer))
            buffer.clear()
    await asyncio.to_thread(write, bytes(buffer))
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
