"""Databases that are copied and restored: SQLite's file, and the mark that a restore leaves."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select, update

from fleek.domain.errors import ConfigurationError, DatabaseUnavailable
from fleek.domain.media import Key
from fleek.domain.values import dataclass
from fleek.store.database import Database
from fleek.store.tables import EventRow, JobRow

COMPANIONS: Final = ("-wal", "-shm", "-journal")  # files that SQLite keeps beside a database
OF_JOBS: Final = (
    "SELECT key, size_bytes FROM media JOIN jobs ON jobs.id = media.job_id"
    " WHERE jobs.status = 'completed' AND jobs.purged_at IS NULL"
)
OF_UPLOADS: Final = "SELECT key, size_bytes FROM uploads WHERE stored AND kept_sha256 IS NOT NULL"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file that a database refers to."""

    key: Key
    size_bytes: int


async def mark_restored(db: Database, *, now: datetime, taken_at: datetime | None = None) -> int:
    """Let all unfinished jobs be searched for at their providers before they are started.

    A prediction that was created after the backup has no row. `taken_at` is the time of the backup;
    None: that of the latest event in it. A mark that is there from an earlier restore stays.

    Returns:
        How many jobs have the mark.
    """
    async with db.write() as tx:
        latest = await tx.scalar(select(func.max(EventRow.at)))
        since = min(each for each in (latest, taken_at, now) if each is not None)
        statement = (
            update(JobRow)
            .where(JobRow.completed_at.is_(None))
            .values(search_since=func.coalesce(JobRow.search_since, since))
        )
        marked: int = (await tx.execute(statement)).rowcount
        return marked


def sqlite_file(db: Database) -> Path:
    """Return the file of the database.

    Raises:
        ConfigurationError: It is PostgreSQL, which has tools of its own.
    """
    if db.kind != "sqlite" or db.file is None:
        raise ConfigurationError(
            "DATABASE_URL: fleek copies SQLite only; use pg_dump and pg_restore, and after a restore "
            '"fleek backup mark-restored"'
        )
    return db.file


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment, while others write to it; blocks.

    Raises:
        DatabaseUnavailable: It could not be copied.
    """
    try:
        with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
            read.backup(written)
            written.execute("PRAGMA journal_mode = DELETE")  # one file, without companions
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"the database cannot be copied: {error}") from error


def fold(path: Path) -> None:
    """Put all of a closed database into its one file; blocks."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


class DatabaseCopy:
    """A copy that nothing writes to; everything blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def problem(self) -> str | None:
        """Return what is wrong with the copy; None: nothing."""
        try:
            (answer,) = self._rows("PRAGMA integrity_check(1)")
            broken = self._rows("PRAGMA foreign_key_check")
        except (sqlite3.Error, ValueError) as error:
            return str(error)
        if broken:
            return f"a row of {broken[0][0]} refers to none"
        return None if answer[0] == "ok" else str(answer[0])

    @property
    def revision(self) -> str:
        """The revision of its schema."""
        ((revision,),) = self._rows("SELECT version_num FROM alembic_version")
        return str(revision)

    def files(self) -> Iterator[KeptFile]:
        """Yield the files that it refers to."""
        for statement in (OF_JOBS, OF_UPLOADS):
            for key, size_bytes in self._rows(statement):
                yield KeptFile(Key(key), size_bytes)

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        address = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            return connection.execute(statement).fetchall()
