"""Whose turn it is: ranges of the index of pending jobs, one per provider and priority.

Each provider has a queue of its own, so that one that takes nothing holds up no other.

The statements are made once: to make and to hash such large ones takes longer than to run them.
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Select,
    and_,
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

PROVIDER: Final[BindParameter[str]] = bindparam("provider")
PRIORITIES: Final = range(9, -1, -1)
POSITION_CAP: Final = 1000  # positions beyond are not counted out


def _pending(provider: Any, priority: int, *columns: Any, where: Any, limit: Any) -> Select[Any]:
    """Return a provider's first pending jobs of one priority in the order of their turn."""
    queue = (JobRow.status == PENDING, JobRow.provider == provider, JobRow.priority == priority)
    first = select(*columns).where(*queue, where).order_by(JobRow.run_at, JobRow.id).limit(limit)
    return select(first.subquery())


def _by_priority(*columns: Any, where: Any, limit: Any) -> CompoundSelect[Any]:
    """Return one range of the index of what is due per priority: the rest costs nothing."""
    return union_all(
        *(
            _pending(PROVIDER, priority, *columns, where=where, limit=limit)
            for priority in PRIORITIES
        )
    )


_DUE: Final[ColumnElement[bool]] = JobRow.run_at <= bindparam("now")
_TOLD: Final = (
    JobRow.id.label("job_id"),
    JobRow.tenant_id,
    JobRow.provider,
    JobRow.model,
    JobRow.priority,
    JobRow.run_at,
)

DUE: Final = _by_priority(*_TOLD, where=_DUE, limit=bindparam("most"))
DUE_BUT: Final = _by_priority(
    *_TOLD,
    where=and_(_DUE, JobRow.model.not_in(bindparam("without", expanding=True))),
    limit=bindparam("most"),
)
FIRST_DUE: Final = _by_priority(JobRow.run_at, where=_DUE, limit=1)
FIRST_LATER: Final = _by_priority(JobRow.run_at, where=JobRow.run_at > bindparam("now"), limit=1)


NEXT_PROVIDER: Final = (
    select(JobRow.provider)
    .where(JobRow.status == PENDING, JobRow.provider > bindparam("after"))
    .order_by(JobRow.provider)
    .limit(1)
)


def ahead_of(job: Job, *, now: datetime) -> Select[Any]:
    """Return the statement for the due jobs of its provider that go first, at most 1,000."""
    before = tuple_(JobRow.run_at, JobRow.id) < (min(job.run_at, now), job.id)
    ahead = union_all(
        _pending(job.provider, job.priority, JobRow.id, where=before, limit=POSITION_CAP),
        *(
            _pending(
                job.provider, priority, JobRow.id, where=JobRow.run_at <= now, limit=POSITION_CAP
            )
            for priority in PRIORITIES
            if priority > job.priority
        ),
    )
    return select(ahead.subquery()).limit(POSITION_CAP)
