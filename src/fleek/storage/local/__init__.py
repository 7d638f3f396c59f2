"""Local folders: ``media/`` and ``metadata/``, side by side."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings

from fleek.domain.errors import ConfigurationError, HostError, StorageError, StorageFull
from fleek.domain.host_errors import host_errors
from fleek.domain.media import Key
from fleek.environment import SOURCE, read
from fleek.storage.base import Link, Storage, Stored
from fleek.storage.local.tree import MIN_FREE_BYTES, Tree

T = TypeVar("T")

CHUNK_BYTES: Final = 256 * 1024
THREADS: Final = 16  # a save waits for the disk, and disks are faster with concurrent writes


class LocalStorageSettings(BaseSettings):
    """Settings of the local storage."""

    model_config = SOURCE

    storage_path: Path = Field(
        default=Path("storage"),
        validation_alias=AliasChoices("STORAGE_PATH", "LOCAL_MEDIA_PATH"),
        description="Folder for `media/` and `metadata/`. A folder with the name `media` is used for "
        "the media, and metadata is stored beside it.",
    )

    min_free_bytes: int = Field(
        default=MIN_FREE_BYTES,
        ge=0,
        description="Free space to keep on the disk, in bytes: "
        "below it, jobs are refused and results wait.",
    )

    @field_validator("storage_path")
    @classmethod
    def _at_home(cls, path: Path) -> Path:
        try:
            return path.expanduser()
        except RuntimeError:
            raise ValueError(
                "~ does not name a user of this machine; give the full path"
            ) from None

    @property
    def root(self) -> Path:
        """The folder of both areas."""
        path = self.storage_path.absolute()
        return path.parent if path.name == "media" else path


class LocalStorage:
    """Stores files in a tree. Blocking work runs in threads; close it to end them."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="storage")

    def close(self) -> None:
        """Wait for running work, and end the threads."""
        self._threads.shutdown()

    def spool(self) -> Path:
        """Return the folder for incomplete files, which are removed after a day.

        It is created if necessary. Blocks.
        """
        return self._tree.spool()

    async def save(self, key: Key, source: Path | bytes, *, content_type: str) -> None:  # noqa: ARG002 - folders keep none
        """Move a complete file, or write its content, to `key`, durably.

        `source` is removed even if that fails.

        Raises:
            StorageFull: There is no free space.
            StorageError: It could not be written.
            ValueError: The key is not valid: a defect of Fleek.
        """
        work = (
            partial(self._tree.write, key, source)
            if isinstance(source, bytes)
            else partial(self._tree.save, key, source)
        )
        await self._do(f"save {key}", work)

    async def read(
        self, key: Key, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Stream the bytes from `start` up to, not including, `end`."""
        doing = f"read {key}"
        fd = await self._do(doing, partial(self._tree.open, key), undo=os.close)
        try:
            size = os.fstat(fd).st_size
            end = size if end is None else min(end, size)
            while start < end:
                length = min(CHUNK_BYTES, end - start)
                chunk = await self._do(doing, partial(os.pread, fd, length, start))
                if not chunk:
                    raise StorageError(f"cannot {doing}: the file was truncated while reading")
                yield chunk
                start += len(chunk)
        finally:
            os.close(fd)

    async def stat(self, key: Key) -> Stored:
        """Return size and time of a file."""
        return await self._do(f"read {key}", partial(self._tree.stat, key))

    async def delete(self, key: Key) -> None:
        """Remove a file, and the folders that it leaves empty."""
        await self._do(f"delete {key}", partial(self._tree.delete, key))

    async def keys(self, prefix: str = "") -> AsyncIterator[Stored]:
        """List all files whose key begins with `prefix`, with constant memory."""
        files = self._tree.find(prefix)
        while batch := await self._do("list files", lambda: list(islice(files, 500))):
            for stored in batch:
                yield stored

    async def url(self, key: Key) -> Link | None:  # noqa: ARG002 - none has one
        """Return None: Fleek serves local files."""
        return None

    async def check(self) -> None:
        """Check for both areas that a file could be written now."""
        await self._do("write", self._tree.check)

    async def _do(
        self, doing: str, work: Callable[[], T], *, undo: Callable[[T], None] | None = None
    ) -> T:
        """Run blocking work in a thread.

        Args:
            doing: For the message, after "cannot".
            work: The work, which may raise OSError.
            undo: Called with the result if the caller was cancelled.
        """
        with host_errors(doing):
            job = self._threads.submit(work)
        try:
            with host_errors(doing):
                return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            if undo is not None:
                job.add_done_callback(partial(_undo, undo))
            raise


def _undo(undo: Callable[[T], None], job: Future[T]) -> None:
    if not job.cancelled() and job.exception() is None:
        undo(job.result())


def _opened(settings: LocalStorageSettings) -> Tree:
    try:
        with host_errors("make its folders"):
            tree = Tree(settings.root, min_free_bytes=settings.min_free_bytes)
        with (
            suppress(StorageFull),
            host_errors("write"),
        ):  # space may become free; a missing right is permanent
            tree.check()
    except HostError as error:
        raise ConfigurationError(f"STORAGE_PATH={settings.storage_path}: {error}") from error
    return tree


@asynccontextmanager
async def connect() -> AsyncGenerator[Storage]:
    """Open the storage from the environment, and create its folders.

    Raises:
        ConfigurationError: They cannot be created or written.
    """
    storage = LocalStorage(await asyncio.to_thread(_opened, read(LocalStorageSettings)))
    try:
        yield storage
    finally:
        await asyncio.to_thread(storage.close)
