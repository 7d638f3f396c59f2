"""Backups: a folder with the database, the stored files and a manifest of all hashes.

The database is copied first. A file is stored before the database refers to it, and never changes,
so the files of a backup are at least those of its database.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from fleek import __version__, strict
from fleek.bootstrap import open_storage
from fleek.domain.errors import BackupBroken, ConfigurationError, Conflict, NotFound, Unreadable
from fleek.domain.host_errors import host_errors
from fleek.domain.media import Key
from fleek.domain.values import dataclass
from fleek.settings import Settings
from fleek.storage.base import AREAS, Storage, split, spool_file
from fleek.store.address import database_url
from fleek.store.database import Database, open_database
from fleek.store.migrate import migrate
from fleek.store.restores import (
    COMPANIONS,
    DatabaseCopy,
    copy_database,
    fold,
    mark_restored,
    sqlite_file,
)
from fleek.system_clock import wall_time

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
DATABASE: Final = "fleek.db"
STORAGE: Final = "storage"  # folder of the files
MOST_SHOWN: Final = 5  # of the problems of a backup


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a backup."""

    path: str  # within the folder of the backup
    size_bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"path": self.path, "size_bytes": self.size_bytes, "sha256": self.sha256}

    @classmethod
    def of(cls, folder: Path, path: str) -> Self:
        """Read a file of a backup; blocks."""
        file = folder / path
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return cls(path, file.stat().st_size, digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in a backup."""

    created_at: datetime
    version: str  # of Fleek
    revision: str  # of the schema
    files_included: bool  # else they are only referred to
    database: Entry
    files: tuple[Entry, ...] = ()
    purged: tuple[str, ...] = ()  # keys of files that were purged while the backup was made

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "format": FORMAT,
            "created_at": self.created_at.isoformat(),
            "fleek": self.version,
            "revision": self.revision,
            "database": self.database.to_json(),
            "files_included": self.files_included,
            "files": [entry.to_json() for entry in self.files],
            "purged": list(self.purged),
        }

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a backup; blocks.

        Raises:
            ConfigurationError: There is none.
            BackupBroken: It cannot be read.
        """
        try:
            stored = strict.loads((folder / MANIFEST).read_bytes())
        except FileNotFoundError:
            message = f"{folder} is no backup: it has no {MANIFEST}"
            raise ConfigurationError(message) from None
        except (OSError, ValueError, Unreadable) as error:
            raise BackupBroken(f"{folder / MANIFEST} cannot be read: {error}") from error
        try:
            if stored["format"] != FORMAT:
                raise BackupBroken(f"{folder} was made by a newer version of fleek")
            return cls(
                created_at=datetime.fromisoformat(stored["created_at"]),
                version=str(stored["fleek"]),
                revision=str(stored["revision"]),
                files_included=bool(stored["files_included"]),
                database=Entry(**stored["database"]),
                files=tuple(Entry(**entry) for entry in stored["files"]),
                purged=tuple(map(str, stored["purged"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BackupBroken(f"{folder / MANIFEST} is not complete") from error


async def create(db: Database, storage: Storage, folder: Path, *, with_files: bool) -> Manifest:
    """Write a backup into a new folder, while the service runs.

    Raises:
        ConfigurationError: The database is not SQLite.
        Conflict: The folder exists.
        HostError: It cannot be read or written.
    """
    source, created_at = sqlite_file(db), wall_time()
    partial = folder.with_name(f".{folder.name}.partial")
    with host_errors(f"write {folder}"):
        await asyncio.to_thread(_begin, folder, partial)
        await asyncio.to_thread(copy_database, source, partial / DATABASE)
        if with_files:
            await _copy_out(storage, partial / STORAGE)
        manifest = await asyncio.to_thread(_described, partial, created_at, with_files=with_files)
        await asyncio.to_thread(_finish, partial, folder, manifest)
    return manifest


def _begin(folder: Path, partial: Path) -> None:
    if folder.exists():
        raise Conflict(f"{folder} exists; choose a new folder for each backup")
    shutil.rmtree(partial, ignore_errors=True)  # of a backup that was interrupted
    partial.mkdir(parents=True, mode=0o700)


def _described(folder: Path, created_at: datetime, *, with_files: bool) -> Manifest:
    copy = DatabaseCopy(folder / DATABASE)
    paths = sorted(_paths(folder / STORAGE))
    files = tuple(Entry.of(folder, f"{STORAGE}/{path}") for path in paths)
    known = set(paths)
    purged = [kept.key for kept in copy.files() if kept.key not in known] if with_files else []
    return Manifest(
        created_at=created_at,
        version=__version__,
        revision=copy.revision,
        files_included=with_files,
        database=Entry.of(folder, DATABASE),
        files=files,
        purged=tuple(sorted(purged)),
    )


def _finish(partial: Path, folder: Path, manifest: Manifest) -> None:
    """Make a complete backup durable, and only then visible."""
    written = partial / MANIFEST
    written.write_text(strict.dumps(manifest.to_json()).decode())
    for path in (*partial.rglob("*"), partial):
        _sync(path)
    partial.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _paths(folder: Path) -> Iterator[str]:
    """Yield the keys of the files in a folder."""
    for file in folder.rglob("*"):
        if file.is_file():
            yield file.relative_to(folder).as_posix()


async def _copy_out(storage: Storage, folder: Path) -> None:
    for area in AREAS:
        async for stored in storage.keys(area):
            target = folder / stored.key
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with target.open("wb") as file:
                    async for chunk in storage.read(stored.key):
                        file.write(chunk)
            except NotFound:  # purged meanwhile
                target.unlink()


def verify(folder: Path) -> Manifest:
    """Check all of a backup: every hash, the database, and the files that it refers to; blocks.

    Raises:
        ConfigurationError: It is no backup.
        BackupBroken: Something is missing or was changed; the message lists it.
        HostError: It cannot be read.
    """
    manifest = Manifest.read(folder)
    with host_errors(f"read {folder}"):
        problems = list(_problems(folder, manifest))
    if problems:
        more = len(problems) - MOST_SHOWN
        listed = problems[:MOST_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise BackupBroken(f"{folder} is broken: " + "; ".join(listed))
    return manifest


def _problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    damaged = False
    for entry in (manifest.database, *manifest.files):
        problem = _problem(folder, entry)
        damaged |= problem is not None and entry is manifest.database
        if problem is not None:
            yield f"{entry.path} {problem}"
    if damaged:
        return
    copy = DatabaseCopy(folder / manifest.database.path)
    if (problem := copy.problem()) is not None:
        yield f"{manifest.database.path}: {problem}"
        return
    if manifest.files_included:
        sizes = {entry.path: entry.size_bytes for entry in manifest.files}
        for kept in copy.files():
            size_bytes = sizes.get(f"{STORAGE}/{kept.key}")
            if size_bytes != kept.size_bytes and kept.key not in manifest.purged:
                yield f"{kept.key} is not the file that the database refers to"


def _problem(folder: Path, entry: Entry) -> str | None:
    if not _is_inside(entry.path):
        return "is not a path of a backup"
    try:
        found = Entry.of(folder, entry.path)
    except FileNotFoundError:
        return "is missing"
    return None if found == entry else "was changed"


def _is_inside(path: str) -> bool:
    """Whether a path of a manifest, which anyone may have written, stays within the backup."""
    area, _, key = path.partition("/")
    return path == DATABASE or (area == STORAGE and split(key) is not None)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has written."""

    manifest: Manifest
    files: int  # that were written; those that were there already do not count
    marked: int  # jobs that are searched for before they are started


async def restore(settings: Settings, folder: Path, *, nothing_since: bool = False) -> Restored:
    """Write a backup to the database and the storage of the settings, which overwrites nothing.

    `nothing_since`: no process has worked on this installation since the backup, so its jobs need not
    be searched for at the providers.

    Raises:
        ConfigurationError: It is no backup, or the settings name no SQLite.
        BackupBroken: It is not what was written.
        Conflict: There is a database.
        HostError: Something cannot be read or written.
    """
    manifest = await asyncio.to_thread(verify, folder)
    target = _target(settings)
    restoring = target.with_name(f"{target.name}.restoring")
    with host_errors(f"write {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        for name in (restoring, *_companions(restoring)):
            name.unlink(missing_ok=True)  # of a restore that was interrupted
        async with open_storage(settings) as storage:
            files = await _copy_in(storage, folder, manifest.files)
        await asyncio.to_thread(shutil.copyfile, folder / DATABASE, restoring)
        taken_at = manifest.created_at
        async with open_database(f"sqlite+aiosqlite:///{restoring}") as db:
            await migrate(db)
            marked = 0
            if not nothing_since:
                marked = await mark_restored(db, now=wall_time(), taken_at=taken_at)
        await asyncio.to_thread(_put_in_place, restoring, target)
    return Restored(manifest, files, marked)


def _target(settings: Settings) -> Path:
    url = database_url(settings.database_url)
    if url.get_backend_name() != "sqlite":
        raise ConfigurationError(
            "DATABASE_URL: a backup of fleek is of SQLite; set sqlite:///./fleek.db, or use pg_restore"
        )
    target = Path(str(url.database)).absolute()
    for path in (target, *_companions(target)):
        if path.exists():
            raise Conflict(f"{path} exists and is not overwritten; move it away first")
    return target


def _companions(path: Path) -> Sequence[Path]:
    return [path.with_name(path.name + ending) for ending in COMPANIONS]


def _put_in_place(restoring: Path, target: Path) -> None:
    fold(restoring)
    restoring.chmod(0o600)
    _sync(restoring)
    try:
        os.link(restoring, target)  # unlike a rename, it never replaces a file
    except FileExistsError:
        raise Conflict(f"{target} exists and is not overwritten; move it away first") from None
    restoring.unlink()
    _sync(target.parent)


async def _copy_in(storage: Storage, folder: Path, files: Sequence[Entry]) -> int:
    written = 0
    for entry in files:
        key = Key(entry.path.removeprefix(f"{STORAGE}/"))
        try:
            await storage.stat(key)
        except NotFound:
            async with spool_file(storage, "restored") as spooled:
                await asyncio.to_thread(shutil.copyfile, folder / entry.path, spooled)
                await storage.save(key, spooled, content_type="application/octet-stream")
            written += 1
    return written
