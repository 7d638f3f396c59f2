"""Whose turn it is: ranges of the index of pending jobs, one per priority.

The statements are made once: to make and to hash such large ones takes longer than to run them.
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    bindparam,
    literal_column,
    select,
    tuple_,
    union_all,
)

from fleek.domain.job import Job
from fleek.store.tables import JobRow

PENDING: Final[ColumnElement[str]] = literal_column("'pending'")
"""Written out, not bound: only so do the planners see that a partial index answers."""

PRIORITIES: Final = range(9, -1, -1)
POSITION_CAP: Final = 1000  # positions beyond are not counted out


def _pending(priority: int, *columns: Any, where: Any, limit: Any) -> Select[Any]:
    """Return the first pending jobs of one priority in the order of their turn."""
    first = (
        select(*columns)
        .where(JobRow.status == PENDING, JobRow.priority == priority, where)
        .order_by(JobRow.run_at, JobRow.id)
        .limit(limit)
    )
    return select(first.subquery())


def _by_priority(*columns: Any, where: Any, limit: Any) -> CompoundSelect[Any]:
    """Return one range of the index of what is due per priority: the rest costs nothing."""
    return union_all(
        *(_pending(priority, *columns, where=where, limit=limit) for priority in PRIORITIES)
    )


DUE: Final = _by_priority(
    JobRow.id.label("job_id"),
    JobRow.tenant_id,
    JobRow.provider,
    JobRow.priority,
    JobRow.run_at,
    where=JobRow.run_at <= bindparam("now"),
    limit=bindparam("most"),
)
FIRST_DUE: Final = _by_priority(JobRow.run_at, where=JobRow.run_at <= bindparam("now"), limit=1)
FIRST_LATER: Final = _by_priority(JobRow.run_at, where=JobRow.run_at > bindparam("now"), limit=1)


def ahead_of(job: Job, *, now: datetime) -> Select[Any]:
    """Return the statement for the due jobs whose turn is before this one's, at most 1,000."""
    before = tuple_(JobRow.run_at, JobRow.id) < (min(job.run_at, now), job.id)
    ahead = union_all(
        _pending(job.priority, JobRow.id, where=before, limit=POSITION_CAP),
        *(
            _pending(priority, JobRow.id, where=JobRow.run_at <= now, limit=POSITION_CAP)
            for priority in PRIORITIES
            if priority > job.priority
        ),
    )
    return select(ahead.subquery()).limit(POSITION_CAP)
