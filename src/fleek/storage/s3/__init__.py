"""A bucket of Amazon S3, Cloudflare R2, MinIO, or another service with the S3 API.

Media and metadata are in the same bucket, below ``media/`` and ``metadata/``.
"""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final, TypeVar

import structlog

from fleek.domain.errors import ConfigurationError, StorageError
from fleek.domain.host_errors import host_errors
from fleek.domain.media import Key
from fleek.environment import read
from fleek.storage.base import Link, Storage, Stored, remove_stale
from fleek.storage.s3.bucket import PART_BYTES, Bucket, open_store
from fleek.storage.s3.errors import S3Refused, translated
from fleek.storage.s3.settings import S3Settings

T = TypeVar("T")

START_SECONDS: Final = 15  # maximum wait for the bucket at the start
THREADS: Final = 16  # separate ones, so that a bucket that does not respond blocks nothing else
LARGE_UPLOADS: Final = 4  # concurrent ones; each has a few parts in memory
PUBLIC_FRESH: Final = timedelta(hours=1)

__all__ = ["S3Settings", "S3Storage", "connect"]

log = structlog.get_logger(__name__)


class S3Storage:
    """Stores files in a bucket. Close it to end its threads.

    Args:
        bucket: The bucket; its methods block.
        spool: Folder for incomplete files.
        expiry: Lifetime of signed addresses; None: Fleek serves the files.
        public_url: Public address of the bucket; without it, addresses are signed.
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
        """Stop uploads after the current part, and end the threads."""
        self._closed.set()
        self._threads.shutdown()

    def spool(self) -> Path:
        """Return the folder for files that are not complete yet; a day later they are removed.

        It is made anew if it was removed. Blocks.
        """
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._spool

    async def save(self, key: Key, source: Path | bytes, *, content_type: str) -> None:
        """Upload a complete file, or its content; `source` is removed even if that fails.

        Raises:
            StorageFull: There is no free space.
            StorageError: It could not be stored.
            ValueError: The key is not valid: a defect of Fleek.
        """
        abandoned = Event()

        def stopped() -> bool:
            return abandoned.is_set() or self._closed.is_set()

        work = partial(self._bucket.put, key, source, content_type=content_type, stopped=stopped)
        try:
            if isinstance(source, bytes) or await self._do(partial(_size, source)) <= PART_BYTES:
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
                raise StorageError(f"cannot read {key}: the response was cut off")
            left -= len(chunk)
            yield chunk

    async def stat(self, key: Key) -> Stored:
        """Return size and time of a file."""
        return await self._do(partial(self._bucket.stat, key))

    async def delete(self, key: Key) -> None:
        """Remove a file."""
        await self._do(partial(self._bucket.delete, key))

    async def keys(self, prefix: str = "") -> AsyncIterator[Stored]:
        """List all files whose key begins with `prefix`, page by page."""
        pages = self._bucket.find(prefix)
        while (batch := await self._do(partial(next, pages, None))) is not None:
            for stored in batch:
                yield stored

    async def url(self, key: Key) -> Link | None:
        """Return the address of a file in the bucket, public or signed.

        A signed one may be cached for half of its lifetime, so that its recipient can still use it.
        """
        if self._expiry is None:
            return None
        if self._public_url is not None:
            return Link(f"{self._public_url}/{key}", PUBLIC_FRESH)
        signed = await self._do(partial(self._bucket.sign, key, expiry=self._expiry))
        return Link(signed, self._expiry / 2)

    async def check(self) -> None:
        """Check that a file could be written now."""
        await self._do(self._bucket.check)

    async def _do(self, work: Callable[[], T]) -> T:
        with host_errors("use the storage"):  # if no thread can be started
            done = asyncio.get_running_loop().run_in_executor(self._threads, work)
        return await done


def _size(source: Path) -> int:
    with translated("read the spool"):
        return source.stat().st_size


@asynccontextmanager
async def connect() -> AsyncGenerator[Storage]:
    """Open the storage from the environment.

    A bucket that cannot be reached now is opened, too, as that may be temporary.

    Raises:
        ConfigurationError: The bucket, the keys or their permissions are missing, or the spool cannot
        be used.
    """
    settings = read(S3Settings)
    spool = await asyncio.to_thread(_spool, settings.s3_spool_path)
    storage = S3Storage(
        Bucket(await asyncio.to_thread(open_store, settings)),
        spool=spool,
        expiry=None if settings.media_proxy else settings.s3_url_expiry,
        public_url=settings.s3_public_url,
    )
    try:
        await _ask(storage, settings)
        yield storage
    finally:
        await asyncio.to_thread(storage.close)


async def _ask(storage: S3Storage, settings: S3Settings) -> None:
    """Check the settings with a request."""
    endpoint = settings.endpoint or f"Amazon S3 in {settings.region}"
    try:
        async with asyncio.timeout(START_SECONDS):
            await storage.check()
    except S3Refused as error:
        raise ConfigurationError(
            f"S3_BUCKET={settings.s3_bucket} at {endpoint}: {error}"
        ) from error
    except (
        StorageError,
        TimeoutError,
    ) as error:  # may be temporary; jobs wait until then
        log.warning("storage_unavailable", endpoint=endpoint, reason=str(error) or "no response")


def _spool(folder: Path) -> Path:
    """Return the folder, created if necessary; other users must not be able to write to it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        entry = folder.lstat()
        if not stat.S_ISDIR(entry.st_mode) or entry.st_uid != os.geteuid():
            raise ConfigurationError(
                f"S3_SPOOL_PATH={folder}: must be a folder owned by the user of this process"
            )
        remove_stale(folder)
    except OSError as error:
        raise ConfigurationError(f"S3_SPOOL_PATH={folder}: {error.strerror}") from error
    return folder.absolute()
