"""A job's history, line by line."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

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


async def latest(db: Database, job_id: JobId, *, limit: int) -> list[Event]:
    """Return the last lines of a job's history, the last one first."""
    statement = (
        select(EventRow.seq, EventRow.type, EventRow.data, EventRow.at)
        .where(EventRow.job_id == job_id)
        .order_by(EventRow.seq.desc())
        .limit(limit)
    )
    async with db.read() as tx:
        return [Event(**row) for row in (await tx.execute(statement)).mappings()]
