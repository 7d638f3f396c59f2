"""Small pictures of stored files, kept beside them: made after a job has completed, and when one is missing.

They are made by a program of its own with limits (`fleek.thumbnail_maker`), one at a time in each process. So
no file can hurt the service, no job waits for them, and none fails because of them. A worker makes those of the
jobs that it has completed, the newest first and the oldest never if it cannot keep up; the API makes one that is
asked for and missing.
"""

import asyncio
import sys
import tempfile
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from fleek.domain.errors import HostError, NotFound, StorageError
from fleek.domain.media import SIZES, Key, Media, thumbnail_key
from fleek.engine.programs import run_program
from fleek.sniff.thumbnails import demuxer, film_decoder, thumbnail_sizes
from fleek.storage.base import spool_file
from fleek.store import placeholders

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime

MAX_BYTES: Final = 64 << 20  # of the file
TIMEOUT_SECONDS: Final = 30.0  # of waiting; the program limits its computing to less
MOST_REMEMBERED: Final = 4096  # files of which there is no small picture
MAX_WAITING: Final = 500
IDLE: Final = timedelta(hours=1)  # between two looks if nothing is announced

log = structlog.get_logger(__name__)


class _Impossible(NotFound):
    """There can be no small picture of a file."""


class Thumbnails:
    """Makes and reads the small pictures of one process."""

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Semaphore(1)
        self._announced: deque[Media] = deque(maxlen=MAX_WAITING)
        self._making: dict[Key, asyncio.Task[None]] = {}
        self._impossible: OrderedDict[Key, None] = OrderedDict()

    def announce(self, rt: "Runtime", media: Sequence[Media]) -> None:
        """Have those of a completed job's files made soon, by this process."""
        if rt.settings.make_thumbnails:
            self._announced.extend(file for file in media if _may_have_one(file))
            rt.wakeups.notify("thumbnails")

    async def make_next(self, rt: "Runtime") -> timedelta:
        """Make those of the file that was announced last; returns when to look again."""
        if not self._announced:
            return IDLE
        with suppress(NotFound):  # it has none, or is gone
            await self._made(rt, self._announced.pop())
        return timedelta(0)

    async def read(self, rt: "Runtime", media: Media, size: int) -> bytes:
        """Return the small picture of a file, as WebP.

        Raises:
            NotFound: There is none of this file.
            StorageError: The storage cannot be read.
        """
        with suppress(NotFound):  # another machine may have made it, which has a decoder
            return await _stored(rt, media, size)
        if not _may_have_one(media):
            raise NotFound("there is no thumbnail of this file")
        await self._made(rt, media)
        return await _stored(rt, media, size)

    async def close(self) -> None:
        """Stop what is being made."""
        making = [*self._making.values()]
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _made(self, rt: "Runtime", media: Media) -> None:
        """Make both sizes, once however many ask for them at a time."""
        if media.key in self._impossible or len(self._making) >= MAX_WAITING:
            raise NotFound("there is no thumbnail of this file")
        task = self._making.get(media.key)
        if task is None:
            task = self._making[media.key] = asyncio.create_task(self._make(rt, media))
            task.add_done_callback(lambda task: self._ended(media.key, task))
        await asyncio.shield(task)

    async def _make(self, rt: "Runtime", media: Media) -> None:
        async with self._one_at_a_time, spool_file(rt.storage, "thumbnail") as copy:
            with tempfile.TemporaryDirectory(dir=copy.parent, prefix="thumbnail-") as folder:
                await _copy(rt, media, copy)
                try:
                    uri = await _run(media, copy, Path(folder))
                except _Impossible:
                    self._remember(media.key)
                    raise
                await _keep(rt, media, Path(folder), uri)

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        self._making.pop(key, None)
        if not task.cancelled():
            task.exception()  # nobody may wait for it any more

    def _remember(self, key: Key) -> None:
        self._impossible[key] = None
        if len(self._impossible) > MOST_REMEMBERED:
            self._impossible.popitem(last=False)


def _may_have_one(media: Media) -> bool:
    return bool(thumbnail_sizes(media.content_type)) and media.size_bytes <= MAX_BYTES


async def _stored(rt: "Runtime", media: Media, size: int) -> bytes:
    key = thumbnail_key(media.key, size)
    return b"".join([chunk async for chunk in rt.storage.read(key)])


async def _copy(rt: "Runtime", media: Media, path: Path) -> None:
    with path.open("wb") as file:
        async for chunk in rt.storage.read(media.key):
            await asyncio.to_thread(file.write, chunk)


async def _keep(rt: "Runtime", media: Media, folder: Path, uri: str) -> None:
    """Store both beside the file, unless the job was purged meanwhile."""
    for size in SIZES:
        path = folder / f"{size}.webp"
        await rt.storage.save(thumbnail_key(media.key, size), path, content_type="image/webp")
    if not await placeholders.is_shown(rt.db, media):
        for size in SIZES:
            await rt.storage.delete(thumbnail_key(media.key, size))
        raise NotFound("the files of this job were removed")
    if uri and media.placeholder is None:
        try:
            await placeholders.write(rt.db, media, uri)
        except (HostError, StorageError) as error:  # it is only shown while others load
            log.info("placeholder_not_stored", reason=str(error))


async def _run(media: Media, source: Path, folder: Path) -> str:
    """Run the program; returns the placeholder, which may be empty.

    Raises:
        NotFound: It could make nothing now: the machine is too busy.
        _Impossible: It can make nothing of this file.
    """
    command = [sys.executable, "-m", "fleek.thumbnail_maker", str(source), str(folder)]
    film, decoder = demuxer(media.content_type), film_decoder()
    if film is not None and decoder is not None:
        command += [film, decoder]
    try:
        code, output, errors = await run_program(command, seconds=TIMEOUT_SECONDS)
    except (OSError, TimeoutError) as error:
        log.info("thumbnail_not_made", key=media.key, reason=str(error) or "it took too long")
        raise NotFound("the thumbnail of this file could not be made now") from error
    if code != 0 or not all((folder / f"{size}.webp").exists() for size in SIZES):
        reason = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
        log.info("thumbnail_not_made", key=media.key, code=code, reason=reason[:200])
        raise _Impossible("there is no thumbnail of this file")
    return output.decode("ascii", "replace")
