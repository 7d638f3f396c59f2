"""The storage's port: what the engine and the API ask of a place for bytes."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from fleek.domain.media import Key


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

        `source` is gone afterwards. When this returns, the bytes survive a loss of power.

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
