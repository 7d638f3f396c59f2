"""Small pictures of stored files: made when they are first asked for, and kept beside the files.

They are made by a program of its own with limits (`fleek.thumbnail_maker`), one at a time in each process of
the API. So no file can hurt the service, no job waits for them, and none fails because of them. One that is
missing is made again.
"""

import asyncio
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Final

import structlog

from fleek.domain.errors import HostError, NotFound, StorageError
from fleek.domain.media import SIZES, Key, Media, thumbnail_key
from fleek.engine.runtime import Runtime
from fleek.sniff.thumbnails import thumbnail_sizes
from fleek.storage.base import spool_file
from fleek.store import placeholders

MAX_BYTES: Final = 64 << 20  # of the file
TIMEOUT_SECONDS: Final = 20.0
MOST_REMEMBERED: Final = 4096  # files of which there is no small picture
MAX_WAITING: Final = 500

log = structlog.get_logger(__name__)


class Thumbnails:
    """Makes and reads the small pictures of one process."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._one_at_a_time = asyncio.Semaphore(1)
        self._making: dict[Key, asyncio.Task[None]] = {}
        self._impossible: OrderedDict[Key, None] = OrderedDict()

    async def read(self, media: Media, size: int) -> bytes:
        """Return the small picture of a file, as WebP.

        Raises:
            NotFound: There is none of this file.
            StorageError: The storage cannot be read.
        """
        if not thumbnail_sizes(media.content_type) or media.size_bytes > MAX_BYTES:
            raise NotFound("there is no thumbnail of this file")
        try:
            return await self._stored(media, size)
        except NotFound:
            await self._made(media)
        return await self._stored(media, size)

    async def _stored(self, media: Media, size: int) -> bytes:
        key = thumbnail_key(media.key, size)
        return b"".join([chunk async for chunk in self._rt.storage.read(key)])

    async def _made(self, media: Media) -> None:
        """Make both sizes, once however many ask for them at a time."""
        if media.key in self._impossible or len(self._making) >= MAX_WAITING:
            raise NotFound("there is no thumbnail of this file")
        task = self._making.get(media.key)
        if task is None:
            task = self._making[media.key] = asyncio.create_task(self._make(media))
            task.add_done_callback(lambda _: self._making.pop(media.key, None))
        await asyncio.shield(task)

    async def _make(self, media: Media) -> None:
        async with self._one_at_a_time, spool_file(self._rt.storage, "thumbnail") as copy:
            with tempfile.TemporaryDirectory(dir=copy.parent, prefix="thumbnail-") as folder:
                await self._copy(media, copy)
                uri = await asyncio.to_thread(_run, media, copy, Path(folder))
                if uri is None:
                    self._remember(media.key)
                    raise NotFound("there is no thumbnail of this file")
                await self._keep(media, Path(folder), uri)

    async def _copy(self, media: Media, path: Path) -> None:
        with path.open("wb") as file:
            async for chunk in self._rt.storage.read(media.key):
                await asyncio.to_thread(file.write, chunk)

    async def _keep(self, media: Media, folder: Path, uri: str) -> None:
        rt = self._rt
        for size in SIZES:
            path = folder / f"{size}.webp"
            await rt.storage.save(thumbnail_key(media.key, size), path, content_type="image/webp")
        if uri and media.placeholder is None:
            try:
                await placeholders.write(rt.db, media, uri)
            except (HostError, StorageError) as error:  # it is only shown while others load
                log.info("placeholder_not_stored", reason=str(error))

    def _remember(self, key: Key) -> None:
        self._impossible[key] = None
        if len(self._impossible) > MOST_REMEMBERED:
            self._impossible.popitem(last=False)


def _run(media: Media, source: Path, folder: Path) -> str | None:
    """Run the program; returns the placeholder, or None if it could make nothing."""
    kind = ["film"] if media.content_type.startswith("video/") else []
    command = [sys.executable, "-m", "fleek.thumbnail_maker", str(source), str(folder), *kind]
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command,
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.info("thumbnail_not_made", key=media.key, reason=str(error))
        return None
    if done.returncode != 0 or not all((folder / f"{size}.webp").exists() for size in SIZES):
        reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        log.info("thumbnail_not_made", key=media.key, reason=reason[:200])
        return None
    return done.stdout.decode("ascii", "replace")
