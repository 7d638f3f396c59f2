"""The indexes. Migrations make them; a test compares the two.

Each exists for one loop or one list, and is partial where only live rows matter, so that a million
finished jobs cost the loops nothing.

They stand apart from the tables since no statement needs them: a condition makes SQLAlchemy load
the dialects of both databases, and their drivers' modules, in every process.
"""

from typing import Any, Final

from sqlalchemy import Index, MetaData, text

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
    AttemptRow,
    Base,
    JobRow,
    MediaRow,
    WorkerRow,
)

SCHEMA: Final[MetaData] = Base.metadata
"""The tables, with their indexes."""


def _index(row: type[Base], name: str, *columns: str, where: str | None = None) -> None:
    """Add an index to the table of `row`."""
    partial: dict[str, Any] = (
        {} if where is None else {"sqlite_where": text(where), "postgresql_where": text(where)}
    )
    Index(name, *(row.__table__.c[column] for column in columns), **partial)


_index(JobRow, "ix_jobs_list", "tenant_id", "id")
_index(JobRow, "ix_jobs_list_by_status", "tenant_id", "status", "id")
_index(JobRow, "ix_jobs_due", "provider", "priority", "run_at", "id", where="status = 'pending'")
_index(JobRow, "ix_jobs_held", "worker_id", where="worker_id IS NOT NULL")
_index(JobRow, "ix_jobs_uncollected", "run_at", where="stage = 'collecting' AND worker_id IS NULL")
_index(JobRow, "ix_jobs_deadline", "deadline", where=LIVE)
_index(JobRow, "ix_jobs_ended", "completed_at", "id", where=ENDED)
_index(JobRow, "ix_jobs_media_kept", "completed_at", "id", where=MEDIA_KEPT)
_index(JobRow, "ix_jobs_metadata_kept", "completed_at", "id", where=METADATA_KEPT)
_index(JobRow, "ix_jobs_purging", "updated_at", "id", where=PURGING)
_index(JobRow, "ix_jobs_retries", "retry_of", "id", where="retry_of IS NOT NULL")

_index(AttemptRow, "ix_attempts_bound", "first_look_at", "id", where=BOUND)
_index(AttemptRow, "ix_attempts_unsettled", "submitted_at", "id", where=UNSETTLED)
_index(AttemptRow, "ix_attempts_owed", "submitted_at", where=OWED)

_index(MediaRow, "ix_media_attempt", "attempt_id")  # or removing an attempt scans

_index(WorkerRow, "ix_workers_alive", "heartbeat_at", where="ended_at IS NULL")
_index(WorkerRow, "ix_workers_unfreed", "ended_at", where=UNFREED)
