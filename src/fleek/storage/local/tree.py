"""Files below one folder, in two areas. Everything here blocks.

A key is resolved folder by folder from its area, without following symbolic links, so it cannot
leave the area.
"""

import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from fleek import failpoints
from fleek.domain.errors import NotFound, StorageFull
from fleek.domain.media import Key
from fleek.domain.values import dataclass
from fleek.storage.base import AREAS, Stored, folders_of, remove_stale, split, write_all

MIN_FREE_BYTES: Final = 16 * 1024 * 1024
CLEAN_SECONDS: Final = 3600.0  # minimum time between two removals of old files from the spools
FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
UNSYNCED: Final = frozenset(
    {errno.EINVAL, errno.ENOTSUP}
)  # of file systems that cannot sync folders


@dataclass(frozen=True, slots=True)
class Disk:
    """Functions of the operating system that tests replace."""

    fsync: Callable[[int], None] = os.fsync
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    device: Callable[[Path], int] = lambda path: path.stat().st_dev


class Tree:
    """The files below `root`, whose folders are created. Each method may also raise OSError.

    Raises:
        OSError: The folders cannot be created.
    """

    def __init__(
        self,
        root: Path,
        *,
        disk: Disk = Disk(),  # noqa: B008 - a value
        min_free_bytes: int = MIN_FREE_BYTES,
    ) -> None:
        self._root = root
        self._disk = disk
        self._min_free_bytes = min_free_bytes
        self._areas: dict[str, Path] = {}
        self._spools: dict[str, Path] = {}
        self._cleaned_at = float("-inf")  # monotonic
        self._prepare()
        self._clean()

    def _prepare(self) -> None:
        """Create missing folders, at the start or after their removal."""
        root = self._root
        for area in AREAS:
            self._make(root / area)
        self._areas = {area: (root / area).resolve() for area in AREAS}
        # A rename works only within a file system, and an area may be a separate one.
        disk = self._disk
        self._spools = {
            area: (root if disk.device(root) == disk.device(path) else path) / ".spool"
            for area, path in self._areas.items()
        }
        for spool in set(self._spools.values()):
            spool.mkdir(mode=0o700, exist_ok=True)

    def _clean(self) -> None:
        """Remove files from the spools after a day, at intervals."""
        now = time.monotonic()
        if now - self._cleaned_at >= CLEAN_SECONDS:
            self._cleaned_at = now
            for spool in set(self._spools.values()):
                remove_stale(spool)

    def spool(self, area: str = "media") -> Path:
        """Return the folder for incomplete files of an area, which are removed after a day."""
        if not self._spools[area].is_dir():
            self._prepare()
        with suppress(OSError):  # it is tried again later
            self._clean()
        return self._spools[area]

    def write(self, key: Key, content: bytes) -> None:
        """Write a file to `key`, durably.

        Raises:
            ValueError: The key is not valid: a defect of Fleek.
        """
        parts = _parts(key)
        path = self.spool(parts[0]) / uuid4().hex
        try:
            self._write(path, content)
            self._place(parts, path)
        except BaseException:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise

    def save(self, key: Key, source: Path) -> None:
        """Move a complete file to `key`, durably; `source` is removed even if that fails.

        A file of the area's own spool is on the right disk, so nobody has to look: each call of the
        operating system costs a thread a wait for the busy event loop to hand over the interpreter.

        Raises:
            ValueError: The key is not valid: a defect of Fleek.
        """
        parts = _parts(key)
        near, left = source, {source}  # what may have to be removed
        try:
            if source.parent != self._spools[parts[0]]:
                near = self._on_disk_of(parts[0], source)
                left.add(near)
            self._sync(near)
            self._place(parts, near)
            left.discard(near)
        finally:
            for path in left:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _on_disk_of(self, area: str, source: Path) -> Path:
        """Return where a file is on the disk of its area: it is copied there if necessary."""
        spool = self.spool(area)
        if self._disk.device(source) == self._disk.device(spool):
            return source
        near = spool / uuid4().hex
        try:
            shutil.copyfile(source, near)
        except OSError:
            with suppress(OSError):  # the error of the copy is more useful
                near.unlink(missing_ok=True)
            raise
        return near

    def _place(self, parts: Sequence[str], source: Path, *, tries: int = 4) -> None:
        """Rename a durable file, durably."""
        try:
            with _folders(self._areas[parts[0]], parts, make=True) as fds:
                failpoints.hit("storage.place")
                os.replace(source, parts[-1], dst_dir_fd=fds[-1])
                failpoints.hit("storage.placed")
                try:
                    for fd in reversed(fds):
                        self._sync_folder(fd)
                except OSError:
                    os.unlink(parts[-1], dir_fd=fds[-1])
                    raise
        except FileNotFoundError:  # `delete` has just removed an empty folder
            if tries == 1:
                raise
            self._prepare()  # or the area was removed
            self._place(parts, source, tries=tries - 1)

    def open(self, key: Key) -> int:
        """Return a descriptor for reading, which the caller closes.

        Raises:
            NotFound: There is no such file.
        """
        parts = split(key)
        if parts is None:
            raise NotFound("there is no such file")
        with _absence(), _folders(self._areas[parts[0]], parts) as fds:
            fd = os.open(parts[-1], FILE, dir_fd=fds[-1])
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotFound("there is no such file")
        return fd

    def stat(self, key: Key) -> Stored:
        """Return size and time of a file.

        Raises:
            NotFound: There is no such file.
        """
        fd = self.open(key)
        try:
            return _stored(key, os.fstat(fd))
        finally:
            os.close(fd)

    def delete(self, key: Key) -> None:
        """Remove a file, if it exists, and the folders that become empty."""
        parts = split(key)
        if parts is None:
            return
        with suppress(NotFound), _absence(), _folders(self._areas[parts[0]], parts) as fds:
            os.unlink(parts[-1], dir_fd=fds[-1])
            _prune(parts, fds)

    def find(self, prefix: str) -> Iterator[Stored]:
        """List the files whose key begins with `prefix`, reading only folders with such keys."""
        for folder in folders_of(prefix):
            parts = (*folder.split("/"), "x")
            with suppress(NotFound), _absence(), _folders(self._areas[parts[0]], parts) as fds:
                yield from _list(fds[-1], folder, prefix)

    def check(self) -> None:
        """Write and remove a file in both areas, which are created if necessary.

        Raises:
            StorageFull: There is less free space than a few files need.
        """
        self._prepare()
        for path in self._areas.values():
            free = self._disk.free_bytes(path)
            if free < self._min_free_bytes:
                raise StorageFull(f"only {free // 1024} KiB are free, less than MIN_FREE_BYTES")
            probe = path / ".probe"
            fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                os.write(fd, b"probe")
                self._disk.fsync(fd)
            finally:
                os.close(fd)
                with suppress(OSError):  # the error of the write is more useful
                    probe.unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        """Create a folder and its parents, durably."""
        if not folder.is_dir():
            self._make(folder.parent)
            try:
                folder.mkdir(exist_ok=True)
            except FileExistsError:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
            self._sync(folder.parent)

    def _write(self, path: Path, content: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            write_all(fd, content)
            self._disk.fsync(fd)
        finally:
            os.close(fd)

    def _sync(self, path: Path) -> None:
        fd = os.open(path, FILE)
        try:
            self._disk.fsync(fd)
        finally:
            os.close(fd)

    def _sync_folder(self, fd: int) -> None:
        try:
            self._disk.fsync(fd)
        except OSError as error:
            if error.errno not in UNSYNCED:
                raise


def _parts(key: Key) -> tuple[str, ...]:
    parts = split(key)
    if parts is None:
        raise ValueError(f"{key!r} is not a valid key")
    return parts


def _list(folder: int, path: str, prefix: str) -> Iterator[Stored]:
    with os.scandir(folder) as entries:
        for entry in entries:
            key = f"{path}/{entry.name}"
            if split(key) is None:
                continue
            with suppress(NotFound), _absence():  # it may be removed meanwhile
                if entry.is_file(follow_symlinks=False) and key.startswith(prefix):
                    yield _stored(Key(key), entry.stat(follow_symlinks=False))
                elif entry.is_dir(follow_symlinks=False) and f"{key}/".startswith(prefix):
                    below = os.open(entry.name, FOLDER, dir_fd=folder)
                    try:
                        yield from _list(below, key, prefix)
                    finally:
                        os.close(below)


def _stored(key: Key, entry: os.stat_result) -> Stored:
    modified_at = datetime.fromtimestamp(entry.st_mtime, UTC)
    return Stored(key=key, size_bytes=entry.st_size, modified_at=modified_at)


@contextmanager
def _folders(area: Path, parts: Sequence[str], *, make: bool = False) -> Generator[list[int]]:
    """Open a key's area and folders, in this order.

    Created folders are removed again if they remain empty.
    """
    with ExitStack() as opened:
        fds = [os.open(area, FOLDER)]
        opened.callback(os.close, fds[0])
        try:
            for name in parts[1:-1]:
                fds.append(_open_folder(name, fds[-1], make=make))
                opened.callback(os.close, fds[-1])
            yield fds
        except OSError:
            if make:
                _prune(parts, fds)
            raise


def _prune(parts: Sequence[str], fds: Sequence[int]) -> None:
    """Remove the empty folders of a key, never its area."""
    with suppress(OSError):
        for number in reversed(range(1, len(fds))):
            os.rmdir(parts[number], dir_fd=fds[number - 1])


@contextmanager
def _absence() -> Generator[None]:
    """Translate the operating system's error for a missing file to `NotFound`."""
    try:
        yield
    except OSError as error:
        if error.errno in ABSENT:
            raise NotFound("there is no such file") from None
        raise


def _open_folder(name: str, parent: int, *, make: bool) -> int:
    if make:  # without a look first: most are the folders of a new job
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
    return os.open(name, FOLDER, dir_fd=parent)
