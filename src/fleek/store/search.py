"""Search for words in prompts: FTS5 on SQLite, a GIN index on PostgreSQL.

Both find a word as a whole, whatever its case. On SQLite triggers keep the index, on PostgreSQL it is
one on an expression: so no statement of ours writes it, and processes of an earlier release do, too.
"""

import re
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, func, literal_column, select, text

from fleek.domain.job import JobId
from fleek.domain.values import dataclass
from fleek.store.database import Transaction
from fleek.store.tables import JobRow

SHARE: Final = 5
"""One part of a window in so many is for disorder: for jobs that were committed between the making of
a job's id and its own commit. On PostgreSQL it is looked at before the index is asked."""
WORD: Final = re.compile(r"\w+")

NUMBER: Final = text(
    "SELECT number FROM job_numbers WHERE job_id <= :job_id ORDER BY job_id DESC LIMIT 1"
)
NEWEST: Final = text(
    "SELECT job_id FROM job_words JOIN job_numbers ON number = job_words.rowid"
    " WHERE job_words MATCH :words AND job_words.rowid <= :number"
    " ORDER BY job_words.rowid DESC LIMIT :most"
).columns(job_id=Uuid())
OLDEST: Final = text(
    "SELECT job_id FROM job_words JOIN job_numbers ON number = job_words.rowid"
    " WHERE job_words MATCH :words AND job_words.rowid >= :number"
    " ORDER BY job_words.rowid LIMIT :most"
).columns(job_id=Uuid())
HIGHEST: Final = 2**62


@dataclass(frozen=True, slots=True)
class Found:
    """Jobs whose prompts have the words: those up to `edge` in the order of a list."""

    ids: Sequence[UUID]
    edge: UUID | None = None  # None: there are no others


def words(query: str) -> list[str]:
    """Return the words of a query, in lower case."""
    return WORD.findall(query.lower())


def matches(query: str) -> ColumnElement[bool]:
    """Return the condition that a prompt has all words; for PostgreSQL."""
    simple: ColumnElement[Any] = literal_column("'simple'::regconfig")
    wanted = func.plainto_tsquery(simple, " ".join(words(query)))
    return func.to_tsvector(simple, JobRow.prompt).bool_op("@@")(wanted)


async def on_sqlite(
    tx: Transaction,
    query: str,
    *,
    tenant_id: str,
    after: JobId | None,
    oldest_first: bool,
    most: int,
) -> Found:
    """Return the next jobs of a list whose prompts have all words; some may be of other tenants.

    The index numbers jobs in the order of commits, and lists go by ids. Near each other the two may
    differ, so a search begins a little before its place, and what it finds last counts for the next.
    """
    disorder = max(most // SHARE, 1)
    number: Any = 0 if oldest_first else HIGHEST
    if after is not None:
        known = await tx.scalar(NUMBER, {"job_id": after.hex}) or 0
        number = known - disorder if oldest_first else known + disorder
    columns = {"prompt": words(query), "tenant_id": words(tenant_id)}
    terms = [f'{column} : "{word}"' for column, all_ in columns.items() for word in all_]
    values = {"words": " AND ".join(terms), "number": number, "most": most}
    found = (await tx.scalars(OLDEST if oldest_first else NEWEST, values)).all()
    if len(found) < most:
        return Found(found)
    last = found[-disorder:]
    edge = min(last) if oldest_first else max(last)
    if after is not None and (edge <= after if oldest_first else edge >= after):
        edge = found[-1]  # more disorder than expected: go on nevertheless
    return Found(found, edge)


async def on_postgresql(tx: Transaction, query: str, *, tenant_id: str, most: int) -> Found | None:
    """Return all jobs of a tenant whose prompts have all words; None: they are more than `most`."""
    matching = select(JobRow.id).where(JobRow.tenant_id == tenant_id, matches(query))
    # Planned for all rows, by the index, and read only as far as the limit: planned with the limit,
    # a frequent word would be looked for from the table's beginning, where it may not be.
    every = matching.cte("every").prefix_with("MATERIALIZED", dialect="postgresql")
    found = (await tx.scalars(select(every.c.id).limit(most + 1))).all()
    return None if len(found) > most else Found(found)
