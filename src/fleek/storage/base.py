"""The storage port: the interface of all storages, and their common rules.

The rules are those for valid keys and for the spool, the folder of incomplete files.
"""

import asyncio
import os
import re
import secrets
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog

from fleek.domain.host_errors import host_errors
from fleek.domain.media import Key
from fleek.domain.values import dataclass

AREAS: Final = ("media", "metadata", "uploads")
KEY_PART: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")  # no hidden files, no `..`
MAX_KEY_PARTS: Final = 9  # Fleek's keys have four
STALE_SECONDS: Final = 24 * 60 * 60  # no download takes longer; older files remain from a crash

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """One file in storage."""

    key: Key
    size_bytes: int
    modified_at: datetime  # aware, UTC


@dataclass(frozen=True, slots=True)
class Link:
    """An address at which the storage itself serves a file."""

    address: str
    fresh: timedelta  # how long from now it may be reused


class Storage(Protocol):
    """Stores files under keys. A file is complete or missing, and never changes.

    Every method may also raise `ResourcesExhausted`.
    """

    def spool(self) -> Path:
        """Return the folder for incomplete files, from which `save` is fastest.

        It is created if necessary. May block, and raise OSError.
        """
        ...

    async def save(self, key: Key, source: Path | bytes, *, content_type: str) -> None:
        """Move a complete file from the spool to `key`, durably, replacing an older one.

        `source` is removed; of a small file it may be the content instead. When this returns, the file
        survives a power failure.

        Raises:
            StorageFull: There is no free space; there is no file under `key`.
            StorageError: It could not be written. There is no file under `key`, or a complete one if
            the connection was lost.
        """
        ...

    def read(self, key: Key, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Stream the bytes from `start` up to, not including, `end` (None: to the end).

        Raises:
            NotFound: There is no such file.
            StorageError: It could not be read.
        """
        ...

    async def stat(self, key: Key) -> Stored:
        """Return size and time of a file.

        Raises:
            NotFound: There is no such file.
            StorageError: It could not be read.
        """
        ...

    async def delete(self, key: Key) -> None:
        """Remove a file; no error if it is missing.

        Raises:
            StorageError: It could not be removed.
        """
        ...

    def keys(self, prefix: str = "") -> AsyncIterator[Stored]:
        """List all files whose key begins with `prefix`, in any order.

        Raises:
            StorageError: They could not be listed.
        """
        ...

    async def url(self, key: Key) -> Link | None:
        """Return the address at which the storage serves the file; None: Fleek serves it.

        Raises:
            StorageError: The address cannot be created now.
        """
        ...

    async def check(self) -> None:
        """Check that a file could be written now.

        Raises:
            StorageFull: There is no free space.
            StorageError: It is not writable, with the reason.
        """
        ...


def split(key: str) -> tuple[str, ...] | None:
    """Return the parts of a key: area, folders, file name; None if it is not a valid key."""
    parts = tuple(key.split("/"))
    if parts[0] not in AREAS or not 2 <= len(parts) <= MAX_KEY_PARTS:
        return None
    return parts if all(KEY_PART.fullmatch(part) for part in parts[1:]) else None


def folders_of(prefix: str) -> tuple[str, ...]:
    """Return the folders that can contain keys with a prefix; none if the prefix is not valid."""
    parent, slash, _ = prefix.rpartition("/")
    if slash:
        return (parent,) if split(f"{parent}/x") is not None else ()
    return tuple(area for area in AREAS if area.startswith(prefix))


@asynccontextmanager
async def spool_file(storage: Storage, name: str, *, saved: bool = False) -> AsyncGenerator[Path]:
    """Yield the path of a new file in the spool; the file is removed at the end, if it exists.

    With `saved`, the block ends by handing the file to `Storage.save`, so nothing is left to remove
    after it: each visit of a thread for nothing costs a job a tenth of a millisecond.

    Errors of the file system are translated. A failed removal does not replace the first error: a
    disk that became read-only refuses both.

    Raises:
        HostError: The spool cannot be used now.
    """
    with host_errors("write the spool"):
        folder = await asyncio.to_thread(storage.spool)
        path = folder / f"{name}-{secrets.token_hex(8)}"
        try:
            yield path
        except BaseException:
            await _remove(path)
            raise
        if not saved:
            await _remove(path)


def append(path: Path, content: bytes) -> None:
    """Write to the end of a file, which is made if it is not there. Blocks.

    With three calls of the operating system, where Python's file objects take seven: after each call
    a thread waits until the busy event loop hands over the interpreter.

    Raises:
        OSError: Not all could be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write everything to an open file. Blocks.

    Raises:
        OSError: Not all could be written.
    """
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


async def _remove(path: Path) -> None:
    try:
        await asyncio.to_thread(path.unlink, missing_ok=True)
    except (OSError, RuntimeError) as error:  # a RuntimeError if no thread can be started
        log.warning("spool_file_not_removed", file=path.name, reason=str(error))


def remove_stale(spool: Path) -> None:
    """Remove files from a spool after a day.

    Raises:
        OSError: The folder cannot be read or changed.
    """
    with tempfile.TemporaryFile(dir=spool) as probe:  # for the time by the file system's clock
        oldest = os.fstat(probe.fileno()).st_mtime - STALE_SECONDS
    with os.scandir(spool) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # removed by another process
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    Path(entry).unlink()
