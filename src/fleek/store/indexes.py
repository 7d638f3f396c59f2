"""The indexes: each exists for one loop or one list, and a test compares them with the database.

They are partial where only live rows matter, so that a million finished jobs cost the loops
nothing. `fleek.store.migrate` builds those that a database lacks, without holding up writers: a
migration makes no index on a table that another one has made.
"""

from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy
from sqlalchemy import MetaData, text

from fleek.store.tables import (
    BOUND,
    ENDED,
    LIVE,
    MEDIA_KEPT,
    METADATA_KEPT,
    OWED,
    PURGING,
    UNFREED,
    UNSETTLED,
    Base,
)


class Index(NamedTuple):
    """An index on some columns of a table, of the rows that a condition holds for."""

    table: str
    name: str
    columns: tuple[str, ...]
    where: str | None

    def statement(self, *, concurrently: bool = False) -> str:
        """Return the statement that makes it; with `concurrently`, PostgreSQL locks no writer out."""
        way = "CONCURRENTLY IF NOT EXISTS " if concurrently else ""
        condition = "" if self.where is None else f" WHERE {self.where}"
        return (
            f"CREATE INDEX {way}{self.name} ON {self.table} ({', '.join(self.columns)}){condition}"
        )


def _index(table: str, name: str, *columns: str, where: str | None = None) -> Index:
    return Index(table, name, columns, where)


INDEXES: Final = (
    _index("jobs", "ix_jobs_list", "tenant_id", "id"),
    _index("jobs", "ix_jobs_list_by_status", "tenant_id", "status", "id"),
    _index(
        "jobs", "ix_jobs_due", "provider", "priority", "run_at", "id", where="status = 'pending'"
    ),
    _index("jobs", "ix_jobs_held", "worker_id", where="worker_id IS NOT NULL"),
    _index(
        "jobs", "ix_jobs_uncollected", "run_at", where="stage = 'collecting' AND worker_id IS NULL"
    ),
    _index("jobs", "ix_jobs_deadline", "deadline", where=LIVE),
    _index("jobs", "ix_jobs_ended", "completed_at", "id", where=ENDED),
    _index("jobs", "ix_jobs_media_kept", "completed_at", "id", where=MEDIA_KEPT),
    _index("jobs", "ix_jobs_metadata_kept", "completed_at", "id", where=METADATA_KEPT),
    _index("jobs", "ix_jobs_purging", "updated_at", "id", where=PURGING),
    _index("jobs", "ix_jobs_retries", "retry_of", "id", where="retry_of IS NOT NULL"),
    _index("attempts", "ix_attempts_bound", "first_look_at", "id", where=BOUND),
    _index("attempts", "ix_attempts_unsettled", "submitted_at", "id", where=UNSETTLED),
    _index("attempts", "ix_attempts_owed", "submitted_at", where=OWED),
    _index("media", "ix_media_attempt", "attempt_id"),  # or removing an attempt scans
    _index("workers", "ix_workers_alive", "heartbeat_at", where="ended_at IS NULL"),
    _index("workers", "ix_workers_unfreed", "ended_at", where=UNFREED),
)


@cache
def declared() -> MetaData:
    """Return the tables with their indexes.

    For comparisons: no statement needs them, and a condition makes SQLAlchemy load the dialects of
    both databases, and the modules of their drivers.
    """
    schema: MetaData = Base.metadata
    for index in INDEXES:
        table = schema.tables[index.table]
        partial: dict[str, Any] = {}
        if index.where is not None:
            condition = text(index.where)
            partial = {"sqlite_where": condition, "postgresql_where": condition}
        sqlalchemy.Index(index.name, *(table.c[column] for column in index.columns), **partial)
    return schema
