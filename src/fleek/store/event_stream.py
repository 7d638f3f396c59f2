"""The events of a tenant, in an order in which nothing is ever inserted before what was read.

An event's position is given in its own transaction. On PostgreSQL it is the transaction's number:
what is read lies below the oldest transaction that still runs, so one that commits late is read
late, and never passed over. SQLite has one writer at a time, so numbers that it counts up are
committed in their order. See decision 26.

Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
"""

import re
from datetime import datetime
from typing import Any, ClassVar, Final, NamedTuple, Self
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Integer,
    Uuid,
    bindparam,
    insert,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from fleek.domain.job import JobId
from fleek.domain.values import dataclass
from fleek.store.database import Database, Transaction
from fleek.store.events import Event
from fleek.store.prepared import Query, Write
from fleek.store.tables import EventRow

START: Final = "(SELECT position FROM event_stream)"
XID: Final = "CAST(CAST({function} AS text) AS bigint)"
NOBODY: Final = UUID(int=0)
ID: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,10})-([0-9a-f]{32})-([0-9]{1,9})")

REALIGN: Final = f"""
WITH RECURSIVE latest (tenant_id, position) AS (
    (SELECT tenant_id, position FROM events WHERE position IS NOT NULL
     ORDER BY tenant_id DESC, position DESC LIMIT 1)
    UNION ALL
    SELECT found.tenant_id, found.position FROM latest CROSS JOIN LATERAL (
        SELECT events.tenant_id, events.position FROM events
        WHERE events.position IS NOT NULL AND events.tenant_id < latest.tenant_id
        ORDER BY events.tenant_id DESC, events.position DESC LIMIT 1
    ) AS found
), ahead (distance) AS (
    SELECT max(position) + 1 - {START}
        - {XID.format(function="pg_snapshot_xmax(pg_current_snapshot())")} FROM latest
)
UPDATE event_stream SET position = position + distance FROM ahead WHERE distance > 0
"""  # noqa: S608 - our own words


class _Position(FunctionElement[int]):
    """A number that the database gives: of what is written now, or that all which ended lies below.

    It is of a kind that SQLAlchemy knows how to cache: else each commit of a step compiles its insert again,
    which takes longer than the insert.
    """

    type = BigInteger()
    inherit_cache = True
    function: ClassVar[str]  # of PostgreSQL


class WrittenNow(_Position):
    """The position of an event that this transaction writes."""

    inherit_cache = True
    function = "pg_current_xact_id()"


class Horizon(_Position):
    """What all later events are at or above: those below have been committed, or never will be."""

    inherit_cache = True
    function = "pg_snapshot_xmin(pg_current_snapshot())"


@compiles(_Position)
def _counted(_element: _Position, _compiler: SQLCompiler, **_: Any) -> str:
    return START


@compiles(_Position, "postgresql")
def _by_transaction(element: _Position, _compiler: SQLCompiler, **_: Any) -> str:
    return f"({START} + {XID.format(function=element.function)})"


INSERT_EVENTS: Final = Write(
    insert(EventRow).values(position=WrittenNow()),
    columns=("job_id", "tenant_id", "seq", "type", "data", "at"),
)


class Cursor(NamedTuple):
    """A place in a tenant's stream: the event before it, or where a transaction begins."""

    position: int
    job_id: UUID = NOBODY
    seq: int = 0


@dataclass(frozen=True, slots=True)
class StreamId:
    """A cursor on the wire, with the time until when its holder has received everything."""

    cursor: Cursor
    at: int  # seconds since 1970

    def __str__(self) -> str:
        position, job_id, seq = self.cursor
        return f"{position}-{self.at}-{job_id.hex}-{seq}"

    @classmethod
    def parse(cls, given: str) -> Self | None:
        """Read an id; None: it is none of ours."""
        found = ID.fullmatch(given)
        if found is None:
            return None
        position, at, job_id, seq = found.groups()
        return cls(Cursor(int(position), UUID(job_id), int(seq)), int(at))


class StreamEvent(NamedTuple):
    """An event with its place in the stream."""

    cursor: Cursor
    job_id: JobId
    event: Event


_PLACE: Final = (EventRow.position, EventRow.job_id, EventRow.seq)
_AFTER: Final = tuple_(
    bindparam("position", type_=BigInteger),
    bindparam("job_id", type_=Uuid),
    bindparam("seq", type_=Integer),
)
SELECT_HORIZON: Final = Query[Any](select(Horizon()))
SELECT_PAGE: Final = Query[Any](
    select(*_PLACE, EventRow.type, EventRow.data, EventRow.at)
    .where(
        EventRow.tenant_id == bindparam("tenant_id"),
        EventRow.position >= bindparam("position", type_=BigInteger),  # for SQLite's index
        tuple_(*_PLACE) > _AFTER,
        EventRow.position < Horizon(),
    )
    .order_by(*_PLACE)
    .limit(bindparam("limit", type_=Integer))
)


async def now(db: Database) -> Cursor:
    """Return the place that all events lie before which have been committed in order."""
    async with db.read() as tx:
        return Cursor(await SELECT_HORIZON.scalar(tx))


async def page(db: Database, tenant_id: str, *, after: Cursor, limit: int) -> list[StreamEvent]:
    """Return the next events of a tenant behind a cursor, in order."""
    values = {"tenant_id": tenant_id, **after._asdict(), "limit": limit}
    async with db.read() as tx:
        found = await SELECT_PAGE.rows(tx, **values)
    return [
        StreamEvent(Cursor(position, job_id, seq), JobId(job_id), Event(seq, *rest))
        for position, job_id, seq, *rest in found
    ]


async def realign(tx: Transaction) -> None:
    """Let positions rise above those that are there already.

    A copy of a database of PostgreSQL in another server has transactions with lower numbers.
    """
    if tx.dialect.name == "postgresql":
        await tx.execute(text(REALIGN))


def age(stream_id: StreamId, at: datetime) -> float:
    """Return for how many seconds the holder of an id has been away."""
    return at.timestamp() - stream_id.at
