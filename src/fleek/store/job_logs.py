"""The logs of jobs: pieces that are only added, of which the latest are kept.

They are written in the transaction that a job's decision is made in, under the lock of its row.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import BindParameter, bindparam, delete, func, insert, select, tuple_

from fleek.domain.job import JobId
from fleek.domain.provider_logs import MAX_BYTES, NOTHING, LogPlace, PredictionLog, growth
from fleek.store import rows
from fleek.store.database import Database, Transaction
from fleek.store.prepared import Query, Write
from fleek.store.tables import JobLogRow

PIECE: Final = 4096  # characters of a row
MAX_PIECE: Final = 4 * PIECE  # bytes of it

_IDS: Final[BindParameter[Sequence[UUID]]] = bindparam("ids", expanding=True)
_LATEST: Final = (
    select(JobLogRow.job_id, func.max(JobLogRow.seq))
    .where(JobLogRow.job_id.in_(_IDS))
    .group_by(JobLogRow.job_id, JobLogRow.attempt)
)
SELECT_PLACES: Final = Query[Any](
    select(
        *(JobLogRow.job_id, JobLogRow.seq, JobLogRow.attempt),
        *(JobLogRow.position, JobLogRow.read, JobLogRow.tail),
    ).where(tuple_(JobLogRow.job_id, JobLogRow.seq).in_(_LATEST))
)
INSERT_PIECES: Final = Write(
    insert(JobLogRow),
    columns=("job_id", "seq", "attempt", "position", "read", "tail", "text"),
)
DROP_OLDEST: Final = Write(
    delete(JobLogRow).where(
        JobLogRow.job_id == bindparam("_job_id"), JobLogRow.position <= bindparam("_until")
    )
)
DROP_LOGS: Final = Write(delete(JobLogRow).where(JobLogRow.job_id == bindparam("_job_id")))
SELECT_PIECES: Final = (
    select(JobLogRow.job_id, JobLogRow.seq, JobLogRow.attempt, JobLogRow.text)
    .where(JobLogRow.job_id.in_(_IDS), JobLogRow.seq > bindparam("after"))
    .order_by(JobLogRow.job_id, JobLogRow.seq)
)


class LogPiece(NamedTuple):
    """A piece of a job's logs."""

    seq: int  # from 1 without gaps; the first ones may have been removed
    attempt: int
    text: str


class _Wanted(NamedTuple):
    job_id: JobId
    after: int


class _Stored:
    """What is stored of a job's logs."""

    def __init__(self) -> None:
        self.seq = 0
        self.position = 0  # bytes up to here, those included that were removed
        self.places: dict[int, LogPlace] = {}  # by number of the attempt


async def append(tx: Transaction, logs: Sequence[tuple[JobId, PredictionLog]]) -> None:
    """Store what has come to the logs of jobs, whose rows are locked; the oldest pieces give way."""
    if not logs:
        return
    ids = rows.padded(sorted({job_id for job_id, _ in logs}))
    stored = {job_id: _Stored() for job_id in ids}
    for job_id, seq, attempt, position, read, tail in await SELECT_PLACES.rows(tx, ids=ids):
        known = stored[JobId(job_id)]
        known.seq, known.position = max(known.seq, seq), max(known.position, position)
        known.places[attempt] = LogPlace(read, tail)
    pieces = [piece for job_id, log in logs for piece in _pieces(stored[job_id], job_id, log)]
    if not pieces:
        return
    await INSERT_PIECES.run(tx, pieces)
    full = [
        {"_job_id": job_id, "_until": known.position - MAX_BYTES + MAX_PIECE}
        for job_id, known in stored.items()
        if known.position > MAX_BYTES
    ]
    await DROP_OLDEST.run(tx, full)


def _pieces(stored: _Stored, job_id: JobId, log: PredictionLog) -> Iterator[rows.Values]:
    new = growth(stored.places.get(log.attempt, NOTHING), log.text)
    place = LogPlace.after(log.text)
    for start in range(0, len(new), PIECE):
        text = new[start : start + PIECE]
        stored.seq += 1
        stored.position += len(text.encode())
        stored.places[log.attempt] = place
        yield {
            "job_id": job_id,
            "seq": stored.seq,
            "attempt": log.attempt,
            "position": stored.position,
            "read": place.read,
            "tail": place.tail,
            "text": text,
        }


async def of_job(db: Database, job_id: JobId, *, after: int = 0) -> list[LogPiece]:
    """Return the pieces of a job's logs behind piece `after`, in order."""
    return await db.grouped_read(_of_jobs, _Wanted(job_id, after))


async def _of_jobs(tx: Transaction, wanted: Sequence[_Wanted]) -> list[list[LogPiece]]:
    ids = rows.padded(sorted({each.job_id for each in wanted}))
    values: dict[str, Any] = {"ids": ids, "after": min(each.after for each in wanted)}
    found: dict[JobId, list[LogPiece]] = {job_id: [] for job_id in ids}
    for row in await tx.execute(SELECT_PIECES, values):
        found[JobId(row.job_id)].append(LogPiece(row.seq, row.attempt, row.text))
    return [[piece for piece in found[job_id] if piece.seq > after] for job_id, after in wanted]


async def latest(db: Database, job_id: JobId) -> int:
    """Return the number of the latest piece of a job's logs; 0: there is none."""
    statement = select(func.max(JobLogRow.seq)).where(JobLogRow.job_id == job_id)
    async with db.read() as tx:
        return int(await tx.scalar(statement) or 0)
