"""Lists of jobs: one range of an index, and a bounded look at what lies in it.

A list is read in the order of ids, which sort by time. One of its filters chooses the index; the
others are checked job by job, in a window of `WINDOW` jobs. So a page takes as long among a million
jobs as among a thousand, whatever is asked for; a page of a rare combination holds fewer jobs than
asked for, and names the place from which the next one goes on.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, TextClause, select, text, tuple_, union_all

from fleek.domain.job import JobFilter, JobId
from fleek.domain.values import dataclass
from fleek.store import search
from fleek.store.database import Database, Transaction
from fleek.store.jobs import JobView, read_views
from fleek.store.rows import FIRST_ID, LAST_ID, padded
from fleek.store.search import Found
from fleek.store.tables import FAVOURITE, OF_A_BATCH, OF_A_KIND, JobRow, TagRow
from fleek.store.updates import JOBS

WINDOW: Final = 5000  # jobs of an index that one page looks at
MOST_COUNTED: Final = 10_000
PICKED: Final = 500  # rows that are read at a time by their ids
NEIGHBOURS: Final = (
    100  # jobs around a time: ids and times of several processes may be in disorder
)
ALL: Final = JobFilter()


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs of a list."""

    views: list[JobView]
    after: JobId | None  # the next page begins behind this one; None: there is no other page


@dataclass(frozen=True, slots=True)
class Range:
    """A range of an index, in the order of its last column, the job's id."""

    columns: tuple[Any, ...]
    values: tuple[Any, ...]  # of all columns but the last
    conditions: tuple[TextClause, ...] = ()  # by which the index is partial
    joins_tags: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """A filtered list: ranges that hold all of its jobs, and what else must be true of them."""

    ranges: Sequence[Range]
    checks: Sequence[ColumnElement[bool]]
    oldest_first: bool
    low: UUID = FIRST_ID  # both bounds belong to the list
    high: UUID = LAST_ID

    @classmethod
    def of(cls, wanted: JobFilter, *, tenant_id: str) -> "Listing":
        """Return the list of a tenant's jobs that a filter lets through."""
        ranges = dict(_ranges(wanted, tenant_id))
        chosen = next(iter(ranges)) if wanted.q is None else "all"
        checks = {name: check for name, check in _checks(wanted).items() if name != chosen}
        return cls(ranges[chosen], list(checks.values()), wanted.oldest_first)

    def behind(self, job_id: JobId | None) -> "Listing":
        """Return the rest of the list behind a job."""
        if job_id is None:
            return self
        if self.oldest_first:
            return replace(self, low=max(self.low, UUID(int=job_id.int + 1)))
        return replace(self, high=min(self.high, UUID(int=job_id.int - 1)))

    def up_to(self, job_id: UUID | None) -> "Listing":
        """Return the list up to a job, which belongs to it; None: all of it."""
        if job_id is None:
            return self
        return replace(self, high=job_id) if self.oldest_first else replace(self, low=job_id)

    def select(
        self, *columns: Any, limit: int, offset: int = 0, checked: bool = True
    ) -> Select[Any]:
        """Return the statement that reads these columns of up to `limit` jobs, in order."""
        parts = [
            self._part(one, columns, checked=checked).limit(limit + offset) for one in self.ranges
        ]
        if len(parts) == 1:
            return parts[0].limit(limit).offset(offset)
        together = union_all(*(select(part.subquery()) for part in parts)).subquery()
        statement = select(*(column for column in together.c if column.key != "_place"))
        return statement.order_by(self.in_order(together.c["_place"])).limit(limit).offset(offset)

    def _part(self, one: Range, columns: Sequence[Any], *, checked: bool) -> Select[Any]:
        place = tuple_(*one.columns)
        statement = select(*columns).where(
            place >= [*one.values, self.low],
            place <= [*one.values, self.high],
            *one.conditions,
            *(self.checks if checked else ()),
        )
        if one.joins_tags:
            statement = statement.join_from(TagRow, JobRow, TagRow.job_id == JobRow.id)
        if len(self.ranges) > 1:
            statement = statement.add_columns(one.columns[-1].label("_place"))
        return statement.order_by(*(self.in_order(column) for column in one.columns))

    def in_order(self, column: Any) -> Any:
        """Return a column as the list is ordered by it."""
        return column.asc() if self.oldest_first else column.desc()

    async def window(self, tx: Transaction, size: int) -> UUID | None:
        """Return the last job that one page looks at; None: it looks at all that are left."""
        if not self.checks:
            return None
        place = self.ranges[0].columns[-1]
        edge = self.select(place, limit=1, offset=size - 1, checked=False)
        found: UUID | None = await tx.scalar(edge)
        return found


def _ranges(wanted: JobFilter, tenant_id: str) -> Iterator[tuple[str, list[Range]]]:
    """Yield the ranges that hold all jobs of a filter, the narrowest first."""
    if wanted.batch_id is not None:
        of_a_batch = (text(OF_A_BATCH),)
        members = (JobRow.tenant_id, JobRow.batch_id, JobRow.id)
        yield "batch", [Range(members, (tenant_id, wanted.batch_id), of_a_batch)]
    if wanted.tag is not None:
        columns = (TagRow.tenant_id, TagRow.tag, TagRow.job_id)
        yield "tag", [Range(columns, (tenant_id, wanted.tag), joins_tags=True)]
    if wanted.favourite:
        favourite = (text(FAVOURITE),)  # to the letter: only so does SQLite use the index
        yield "favourite", [Range((JobRow.tenant_id, JobRow.id), (tenant_id,), favourite)]
    if wanted.kind is not None:
        of_a_kind = (text(OF_A_KIND),)
        place = (JobRow.tenant_id, JobRow.kind, JobRow.id)
        yield "kind", [Range(place, (tenant_id, wanted.kind), of_a_kind)]
    for name, column, value in (
        ("model", JobRow.model, wanted.model),
        ("provider", JobRow.provider, wanted.provider),
    ):
        if value is not None:
            yield name, [Range((JobRow.tenant_id, column, JobRow.id), (tenant_id, value))]
    if wanted.statuses:
        columns = (JobRow.tenant_id, JobRow.status, JobRow.id)
        yield "status", [Range(columns, (tenant_id, one)) for one in sorted(wanted.statuses)]
    yield "all", [Range((JobRow.tenant_id, JobRow.id), (tenant_id,))]


def _checks(wanted: JobFilter) -> Mapping[str, ColumnElement[bool]]:
    checks: dict[str, ColumnElement[bool]] = {}
    if wanted.favourite is not None:
        checks["favourite"] = JobRow.favourite.is_(wanted.favourite)
    if wanted.tag is not None:
        tagged = (TagRow.job_id == JobRow.id, TagRow.tag == wanted.tag)
        checks["tag"] = select(TagRow.job_id).where(*tagged).exists()
    if wanted.batch_id is not None:
        checks["batch"] = JobRow.batch_id == wanted.batch_id
    if wanted.model is not None:
        checks["model"] = JobRow.model == wanted.model
    if wanted.provider is not None:
        checks["provider"] = JobRow.provider == wanted.provider
    if wanted.kind is not None:
        checks["kind"] = JobRow.kind == wanted.kind
    if wanted.statuses:
        checks["status"] = JobRow.status.in_(sorted(wanted.statuses))
    if wanted.created_after is not None:
        checks["created_after"] = JobRow.created_at >= wanted.created_after
    if wanted.created_before is not None:
        checks["created_before"] = JobRow.created_at < wanted.created_before
    return checks


async def _between(
    tx: Transaction, wanted: JobFilter, listing: Listing, tenant_id: str
) -> Listing:
    """Narrow a list to the ids of the times that a filter names; `checks` decide exactly."""
    # of jobs of one time the outermost count, however many there are
    order = (JobRow.tenant_id, JobRow.created_at, JobRow.id)
    low, high = listing.low, listing.high
    # SQLite begins at the time only for two plain conditions: for a pair of values, from the first job
    of_tenant = select(JobRow.id).where(JobRow.tenant_id == tenant_id)
    if wanted.created_after is not None:
        nearest = of_tenant.where(JobRow.created_at >= wanted.created_after).order_by(*order)
        low = min(await tx.scalars(nearest.limit(NEIGHBOURS)), default=LAST_ID)
    if wanted.created_before is not None:
        newest = (column.desc() for column in order)
        nearest = of_tenant.where(JobRow.created_at < wanted.created_before).order_by(*newest)
        high = max(await tx.scalars(nearest.limit(NEIGHBOURS)), default=FIRST_ID)
    return replace(listing, low=low, high=high)


async def page(
    db: Database,
    wanted: JobFilter = ALL,
    *,
    tenant_id: str,
    limit: int,
    offset: int = 0,
    after: JobId | None = None,
    window: int = WINDOW,
) -> Page:
    """Return up to `limit` jobs of a tenant, from the one behind `after` on.

    `offset` is exact only for a filter that `is_indexed`; of others `window` jobs are looked at.
    """
    async with db.read() as tx:
        asked = _Asked(wanted, tenant_id, JOBS.c, limit=limit, offset=offset)
        found, edge = await _rows(tx, asked, after=after, window=window)
        views = await read_views(tx, [row._mapping for row in found])  # noqa: SLF001 - documented, named so for the columns' sake
    full = len(views) == limit
    return Page(views, views[-1].job.id if full else None if edge is None else JobId(edge))


@dataclass(frozen=True, slots=True)
class _Asked:
    wanted: JobFilter
    tenant_id: str
    columns: Iterable[Any]
    limit: int
    offset: int = 0


async def _rows(
    tx: Transaction, asked: _Asked, *, after: JobId | None = None, window: int
) -> tuple[Sequence[Row[Any]], UUID | None]:
    """Return rows of a list, and the last job that was looked at; None: there are no others."""
    wanted, tenant_id = asked.wanted, asked.tenant_id
    listing = await _between(tx, wanted, Listing.of(wanted, tenant_id=tenant_id), tenant_id)
    listing = listing.behind(after)
    if wanted.q is None:
        return await _walked(tx, asked, listing, window)
    if tx.dialect.name == "sqlite":
        found = await search.on_sqlite(
            tx,
            wanted.q,
            tenant_id=tenant_id,
            after=after,
            oldest_first=wanted.oldest_first,
            most=window,
        )
        return await _picked(tx, asked, listing, found)
    matching = replace(listing, checks=[*listing.checks, search.matches(wanted.q)])
    rows, edge = await _walked(tx, asked, matching, max(window // search.SHARE, 1))
    if len(rows) == asked.limit or edge is None:
        return rows, edge
    everything = await search.on_postgresql(tx, wanted.q, tenant_id=tenant_id, most=window)
    if everything is None:  # frequent elsewhere: the next page goes on
        return rows, edge
    return await _picked(tx, asked, listing, everything)


async def _walked(
    tx: Transaction, asked: _Asked, listing: Listing, window: int
) -> tuple[Sequence[Row[Any]], UUID | None]:
    edge = await listing.window(tx, window)
    statement = listing.up_to(edge).select(*asked.columns, limit=asked.limit, offset=asked.offset)
    return (await tx.execute(statement)).all(), edge


async def _picked(
    tx: Transaction, asked: _Asked, listing: Listing, found: Found
) -> tuple[Sequence[Row[Any]], UUID | None]:
    """Read what was found in the order of the list, some rows at a time until there are enough."""
    listing = listing.up_to(found.edge)
    ids = sorted(
        (job_id for job_id in found.ids if listing.low <= job_id <= listing.high),
        reverse=not listing.oldest_first,
    )
    rows: list[Row[Any]] = []
    for start in range(0, len(ids), PICKED):
        statement = (
            select(*asked.columns)
            .where(
                JobRow.id.in_(padded(ids[start : start + PICKED])),
                JobRow.tenant_id == asked.tenant_id,
                *listing.checks,
            )
            .order_by(listing.in_order(JobRow.id))
            .limit(asked.limit - len(rows))
        )
        rows.extend((await tx.execute(statement)).all())
        if len(rows) == asked.limit:
            break
    return rows, found.edge


def is_indexed(wanted: JobFilter) -> bool:
    """Whether one index answers this filter, so that no job is looked at in vain."""
    return wanted.q is None and not Listing.of(wanted, tenant_id="").checks


async def count(db: Database, wanted: JobFilter, *, tenant_id: str) -> int:
    """Return how many jobs a filter lets through; at most `MOST_COUNTED` are looked at."""
    return len(await _times(db, wanted, tenant_id=tenant_id, most=MOST_COUNTED))


async def by_day(
    db: Database, wanted: JobFilter, *, tenant_id: str, most: int = MOST_COUNTED
) -> list[tuple[date, int]]:
    """Return how many jobs were created on each day (UTC), in the order of the list.

    At most `most` jobs are looked at: a day that they do not cover whole is left out,
    unless it is the only one.
    """
    times = await _times(db, wanted, tenant_id=tenant_id, most=most)
    days = list(Counter(time.date() for time in times).items())
    return days[:-1] if len(times) == most and len(days) > 1 else days


async def _times(
    db: Database, wanted: JobFilter, *, tenant_id: str, most: int
) -> Sequence[datetime]:
    asked = _Asked(wanted, tenant_id, (JobRow.created_at,), limit=most)
    async with db.read() as tx:
        found, _ = await _rows(tx, asked, window=most)
    return [row.created_at for row in found]
