"""Receive a stream of untrusted bytes within limits, and detect its type.

It goes to a file of the spool. An output that is small stays in memory until it is stored: each visit of
a thread, as for the name of a file or a write, costs a job a tenth of a millisecond.
"""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple

from fleek.domain.errors import FleekError, StorageFull
from fleek.sniff import Sniffed, sniff, sniff_open
from fleek.storage.base import Storage, append, spool_file

BUFFER_BYTES: Final = 1_048_576  # gathered before a write leaves the event loop


class Spooled(NamedTuple):
    """What was received."""

    size_bytes: int
    sha256: str
    sniffed: Sniffed
    source: Path | bytes  # where it is, for `Storage.save`


@asynccontextmanager
async def spooled(
    storage: Storage,
    name: str,
    chunks: AsyncIterator[bytes],
    *,
    most: int,
    too_large: FleekError,
    min_free_bytes: int,
    as_file: bool = False,
) -> AsyncGenerator[Spooled]:
    """Receive a stream, for a block that ends by handing it to `Storage.save`.

    It becomes a file, which `name` begins, if it is large or with `as_file`; see `write_spool`.
    """
    head = bytearray()
    if not as_file:
        async for chunk in chunks:
            head += chunk
            if len(head) > most:
                raise too_large
            if len(head) >= BUFFER_BYTES:
                break
        else:
            yield await asyncio.to_thread(_examined, storage, bytes(head), min_free_bytes)
            return
    async with spool_file(storage, name, saved=True) as path:
        yield await write_spool(
            _continued(head, chunks),
            path,
            most=most,
            too_large=too_large,
            min_free_bytes=min_free_bytes,
        )


async def _continued(head: bytearray, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield bytes(head)
        head.clear()
    async for chunk in chunks:
        yield chunk


def _examined(storage: Storage, content: bytes, min_free_bytes: int) -> Spooled:
    _check_room(storage.spool(), len(content), min_free_bytes)
    digest = hashlib.sha256(content).hexdigest()
    return Spooled(len(content), digest, sniff_open(BytesIO(content)), content)


def _check_room(folder: Path, size: int, min_free_bytes: int) -> None:
    if shutil.disk_usage(folder).free < min_free_bytes + size:
        raise StorageFull("less than MIN_FREE_BYTES would be left on the spool's disk")


async def write_spool(
    chunks: AsyncIterator[bytes],
    path: Path,
    *,
    most: int,
    too_large: FleekError,
    min_free_bytes: int,
) -> Spooled:
    """Write a stream to a file, at most `most` bytes.

    The last bytes are written and the type is detected in one visit of a thread: most files are small,
    and a visit more costs a job a tenth of a millisecond.

    Raises:
        StorageFull: Less than `min_free_bytes` would be left on the disk.
        FleekError: `too_large`, if there are more bytes; and what `chunks` raises.
    """
    digest, size, buffer = hashlib.sha256(), 0, bytearray()

    def write(data: bytes) -> None:
        _check_room(path.parent, len(data), min_free_bytes)
        digest.update(data)
        append(path, data)

    def finish(data: bytes) -> Sniffed:
        write(data)
        return sniff_open(BytesIO(data)) if len(data) == size else sniff(path)

    async for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise too_large
        buffer += chunk
        if len(buffer) >= BUFFER_BYTES:
            await asyncio.to_thread(write, bytes(buffer))
            buffer.clear()
    sniffed = await asyncio.to_thread(finish, bytes(buffer))
    return Spooled(size, digest.hexdigest(), sniffed, path)
