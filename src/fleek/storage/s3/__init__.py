"""Files in a bucket of Amazon S3, Cloudflare R2, MinIO, or whatever else speaks S3.

Media and metadata lie in one bucket, below ``media/`` and ``metadata/``.
"""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from fleek.domain.errors import ConfigurationError, StorageError
from fleek.environment import read
from fleek.storage.base import Storage
from fleek.storage.s3.bucket import Bucket
from fleek.storage.s3.errors import S3Refused
from fleek.storage.s3.settings import S3Settings
from fleek.storage.s3.storage import S3Storage
from fleek.storage.s3.store import open_store
from fleek.storage.spool import remove_stale

PATIENCE_SECONDS: Final = 15  # before we start without an answer

__all__ = ["S3Settings", "S3Storage", "connect"]

log = structlog.get_logger(__name__)


@asynccontextmanager
async def connect() -> AsyncGenerator[Storage]:
    """Open the storage from the environment.

    A bucket that cannot be reached now may come back: then it is opened all the same.

    Raises:
        ConfigurationError: The bucket, the keys or their rights are not there, or the folder for
            files on their way cannot be used.
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
    """Find out whether the settings are right."""
    place = settings.endpoint or f"Amazon S3 in {settings.region}"
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await storage.check()
    except S3Refused as error:
        raise ConfigurationError(f"S3_BUCKET={settings.s3_bucket} at {place}: {error}") from error
    except (
        StorageError,
        TimeoutError,
    ) as error:  # it may come back by itself; jobs wait until then
        log.warning("storage_unavailable", place=place, reason=str(error) or "no answer")


def _spool(folder: Path) -> Path:
    """Return the folder, made if need be, that nobody else can put files into."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise ConfigurationError(f"S3_SPOOL_PATH={folder}: it must be a folder of ours")
        remove_stale(folder)
    except OSError as error:
        raise ConfigurationError(f"S3_SPOOL_PATH={folder}: {error.strerror}") from error
    return folder.absolute()
