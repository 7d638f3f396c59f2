"""Write a stream of untrusted bytes to a file of the spool, within limits, and detect its type."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple

from fleek.domain.errors import FleekError, StorageFull
from fleek.sniff import Sniffed, sniff, sniff_open
from fleek.storage.base import append

BUFFER_BYTES: Final = 1_048_576  # gathered before a write leaves the event loop


class Spooled(NamedTuple):
    """What was written."""

    size_bytes: int
    sha256: str
    sniffed: Sniffed


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
        if shutil.disk_usage(path.parent).free < min_free_bytes + len(data):
            raise StorageFull("less than MIN_FREE_BYTES would be left on the spool's disk")
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
    return Spooled(size, digest.hexdigest(), sniffed)
