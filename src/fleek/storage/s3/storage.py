"""The storage's port over a bucket: every call a hop to a thread."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final, TypeVar

from fleek.domain.errors import StorageError
from fleek.domain.host_errors import host_errors
from fleek.domain.media import Key
from fleek.storage.base import Link, Stored
from fleek.storage.s3.bucket import PART_BYTES, Bucket
from fleek.storage.s3.errors import translated

T = TypeVar("T")

THREADS: Final = 16  # of our own: a bucket that does not answer holds up nothing else
LARGE_UPLOADS: Final = 4  # at once; each has a few parts in memory
PUBLIC_FRESH: Final = timedelta(hours=1)


class S3Storage:
    """Keeps files in a bucket. Close it to end its threads.

    Args:
        bucket: What blocks.
        spool: Folder for files that are not complete yet.
        expiry: How long a signed address can be used; None: files are served by us.
        public_url: Where everybody can read the bucket; without it, addresses are signed.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        spool: Path,
        expiry: timedelta | None = None,
        public_url: str | None = None,
    ) -> None:
        self._bucket = bucket
        self._spool = spool
        self._expiry = expiry
        self._public_url = public_url
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self._large = asyncio.Semaphore(LARGE_UPLOADS)
        self._closed = Event()

    def close(self) -> None:
        """Give up uploads after the part that is on its way, and end the threads."""
        self._closed.set()
        self._threads.shutdown()

    def spool(self) -> Path:
        """Return the folder for files that are not complete yet; a day later they are removed.

        It is made anew if somebody has removed it. Blocks.
        """
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._spool

    async def save(self, key: Key, source: Path, *, content_type: str) -> None:
        """Upload a complete file; `source` is gone even if that fails.

        Raises:
            StorageFull: No room.
            StorageError: Could not be stored.
            ValueError: This is no key: a mistake of ours.
        """
        abandoned = Event()

        def stopped() -> bool:
            return abandoned.is_set() or self._closed.is_set()

        work = partial(self._bucket.put, key, source, content_type=content_type, stopped=stopped)
        try:
            if await self._do(partial(_size, source)) <= PART_BYTES:
                await self._do(work)
            else:
                async with self._large:
                    await self._do(work)
        finally:
            abandoned.set()

    async def read(
        self, key: Key, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Stream the bytes from `start` up to, not including, `end`."""
        left, chunks = await self._do(partial(self._bucket.open, key, start=start, end=end))
        while left > 0:
            with translated(f"read {key}"):
                chunk = await self._do(partial(next, chunks, b""))
            if not chunk:
                raise StorageError(f"cannot read {key}: the answer is cut off")
            left -= len(chunk)
            yield chunk

    async def stat(self, key: Key) -> Stored:
        """Return size and time of a file."""
        return await self._do(partial(self._bucket.stat, key))

    async def delete(self, key: Key) -> None:
        """Remove a file."""
        await self._do(partial(self._bucket.delete, key))

    async def keys(self, prefix: str = "") -> AsyncIterator[Stored]:
        """List all files whose key begins with `prefix`, some at a time."""
        found = self._bucket.find(prefix)
        while (batch := await self._do(partial(next, found, None))) is not None:
            for stored in batch:
                yield stored

    async def url(self, key: Key) -> Link | None:
        """Return where the bucket serves a file: in public, or by a signed address.

        A cache may keep a signed one for half its time, so that who gets it can still use it.
        """
        if self._expiry is None:
            return None
        if self._public_url is not None:
            return Link(f"{self._public_url}/{key}", PUBLIC_FRESH)
        signed = await self._do(partial(self._bucket.sign, key, expiry=self._expiry))
        return Link(signed, self._expiry / 2)

    async def check(self) -> None:
        """Prove that a file could be written now."""
        await self._do(self._bucket.check)

    async def _do(self, work: Callable[[], T]) -> T:
        with host_errors("use the storage"):  # no thread can be started
            done = asyncio.get_running_loop().run_in_executor(self._threads, work)
        return await done


def _size(source: Path) -> int:
    with translated("read the spool"):
        return source.stat().st_size
