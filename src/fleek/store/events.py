"""A job's history, line by line."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, select

from fleek.domain.job import JobId
from fleek.store.database import Database
from fleek.store.tables import EventRow


@dataclass(frozen=True, slots=True)
class Event:
    """One line: what happened, and when."""

    seq: int  # from 1, without gaps; the version that the job reached with it
    type: str
    data: Mapping[str, Any]
    at: datetime


async def of_job(db: Database, job_id: JobId, *, after: int = 0) -> list[Event]:
    """Return a job's history behind line `after`, in order."""
    statement = (
        select(EventRow.seq, EventRow.type, EventRow.data, EventRow.at)
        .where(EventRow.job_id == job_id, EventRow.seq > after)
        .order_by(EventRow.seq)
    )
    async with db.read() as tx:
        return [Event(**row) for row in (await tx.execute(statement)).mappings()]


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
