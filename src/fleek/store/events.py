"""A job's history, line by line."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import and_, bindparam, func, or_, select

from fleek.domain.job import JobId
from fleek.domain.values import dataclass
from fleek.store import rows
from fleek.store.database import Database, Transaction
from fleek.store.prepared import Query
from fleek.store.tables import EventRow

SELECT_LINES: Final = Query[Any](
    select(EventRow.job_id, EventRow.seq, EventRow.type, EventRow.data, EventRow.at)
    .where(
        EventRow.job_id.in_(bindparam("ids", expanding=True)), EventRow.seq > bindparam("after")
    )
    .order_by(EventRow.job_id, EventRow.seq)
)


@dataclass(frozen=True, slots=True)
class Event:
    """One line: what happened, and when."""

    seq: int  # from 1, without gaps; the version that the job reached with it
    type: str
    data: Mapping[str, Any]
    at: datetime


class _Wanted(NamedTuple):
    job_id: JobId
    after: int


async def of_job(db: Database, job_id: JobId, *, after: int = 0) -> list[Event]:
    """Return a job's history behind line `after`, in order."""
    return await db.grouped_read(_of_jobs, _Wanted(job_id, after), short=True)


async def _of_jobs(tx: Transaction, wanted: Sequence[_Wanted]) -> list[list[Event]]:
    ids = rows.padded(sorted({each.job_id for each in wanted}))
    after = min(each.after for each in wanted)
    lines: dict[JobId, list[Event]] = defaultdict(list)
    for job_id, *line in await SELECT_LINES.rows(tx, ids=ids, after=after):
        lines[job_id].append(Event(*line))
    return [[line for line in lines[job_id] if line.seq > after] for job_id, after in wanted]


async def streak(
    db: Database, job_id: JobId, event_type: str, *, code: str, ignored: Collection[str]
) -> tuple[int, datetime | None]:
    """Count the latest events of one type and error code in a row, and say when the first was.

    Events of `ignored` types do not end the row. Without an event it is 0 and None.
    """
    same_code = EventRow.data["code"].as_string() == code
    ends = and_(
        EventRow.type.not_in(ignored),
        or_(EventRow.type != event_type, same_code.is_not(True)),
    )
    last_other = select(func.coalesce(func.max(EventRow.seq), 0)).where(
        EventRow.job_id == job_id, ends
    )
    statement = select(func.count().label("number"), func.min(EventRow.at).label("since")).where(
        EventRow.job_id == job_id,
        EventRow.seq > last_other.scalar_subquery(),
        EventRow.type == event_type,
    )
    async with db.read() as tx:
        row = (await tx.execute(statement)).one()
    return row.number, row.since
