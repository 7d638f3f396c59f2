"""The port of storages: what the engine and the API ask of a place for bytes, and its rules.

The rules are the same for all storages: what may be a key, and how the spool is used, the folder
for files that are not complete yet.
"""

import asyncio
import os
import re
import secrets
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog

from fleek.domain.host_errors import host_errors
from fleek.domain.media import Key

AREAS: Final = ("media", "metadata")
KEY_PART: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")  # no hidden files, no `..`
MAX_KEY_PARTS: Final = 9  # our own keys have four
STALE_SECONDS: Final = 24 * 60 * 60  # no download takes longer; older files were left by a crash

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """One file in storage."""

    key: Key
    size_bytes: int
    modified_at: datetime  # aware, UTC


@dataclass(frozen=True, slots=True)
class Link:
    """An address that serves a file without us."""

    address: str
    fresh: timedelta  # how long from now it may be handed out again


class Storage(Protocol):
    """Keeps files under keys. A file is there whole or not at all, and never changes.

    Every method may raise `ResourcesExhausted` besides.
    """

    def spool(self) -> Path:
        """Return the folder for files that are not complete yet, on the fastest way to `save`.

        It is there, made anew if need be. May block, and raise OSError.
        """
        ...

    async def save(self, key: Key, source: Path, *, content_type: str) -> None:
        """Move a complete file from the spool to `key`, durably; an older one is replaced.

        `source` is removed. When this returns, the bytes survive a loss of power.

        Raises:
            StorageFull: No room; nothing is left behind under `key`.
            StorageError: Could not be written. Nothing is left behind under `key` or, if the
                storage could not be asked any more, the whole file.
        """
        ...

    def read(self, key: Key, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Stream the bytes from `start` up to, not including, `end` (None: to the end).

        Raises:
            NotFound: There is no such file.
            StorageError: Could not be read.
        """
        ...

    async def stat(self, key: Key) -> Stored:
        """Return size and time of a file.

        Raises:
            NotFound: There is no such file.
            StorageError: Could not be looked at.
        """
        ...

    async def delete(self, key: Key) -> None:
        """Remove a file; one that is not there is fine.

        Raises:
            StorageError: Could not be removed.
        """
        ...

    def keys(self, prefix: str = "") -> AsyncIterator[Stored]:
        """List all files whose key begins with `prefix`, in no order.

        Raises:
            StorageError: Could not be listed.
        """
        ...

    async def url(self, key: Key) -> Link | None:
        """Return where the bytes are served without us, or None if we serve them.

        Raises:
            StorageError: No address can be made now.
        """
        ...

    async def check(self) -> None:
        """Prove that a file could be written now.

        Raises:
            StorageFull: No room.
            StorageError: Not writable, with the reason.
        """
        ...


def split(key: str) -> tuple[str, ...] | None:
    """Return the parts of a key: area, folders, file name; None if it is not a valid key."""
    parts = tuple(key.split("/"))
    if parts[0] not in AREAS or not 2 <= len(parts) <= MAX_KEY_PARTS:
        return None
    return parts if all(KEY_PART.fullmatch(part) for part in parts[1:]) else None


def folders_of(prefix: str) -> tuple[str, ...]:
    """Return the folders that can hold keys with this prefix; none if there can be no such key."""
    parent, slash, _ = prefix.rpartition("/")
    if slash:
        return (parent,) if split(f"{parent}/x") is not None else ()
    return tuple(area for area in AREAS if area.startswith(prefix))


@asynccontextmanager
async def spool_file(storage: Storage, name: str) -> AsyncGenerator[Path]:
    """Yield the path of a new file in the spool; at the end, it is removed if it is still there.

    An error of the file system is translated. A failed removal never replaces it: a disk that
    became read-only refuses both.

    Raises:
        HostError: The spool cannot be used now.
    """
    with host_errors("write the spool"):
        folder = await asyncio.to_thread(storage.spool)
        path = folder / f"{name}-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            await _remove(path)


async def _remove(path: Path) -> None:
    try:
        await asyncio.to_thread(path.unlink, missing_ok=True)
    except (OSError, RuntimeError) as error:  # no thread could be started: a RuntimeError
        log.warning("spool_file_not_removed", file=path.name, reason=str(error))


def remove_stale(spool: Path) -> None:
    """Remove the files that have been in a spool for a day.

    Raises:
        OSError: The folder cannot be read or changed.
    """
    with tempfile.TemporaryFile(dir=spool) as probe:  # its time comes from the same clock
        oldest = os.fstat(probe.fileno()).st_mtime - STALE_SECONDS
    with os.scandir(spool) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process removes them, too
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    Path(entry).unlink()
