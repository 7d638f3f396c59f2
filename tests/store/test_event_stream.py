"""The events of a tenant have an order, and nothing is ever inserted before a read event."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import text

from fleek.domain.job import Job, JobId
from fleek.domain.transitions import edit
from fleek.store import event_stream, jobs
from fleek.store.database import Database
from fleek.store.event_stream import Cursor, StreamEvent, StreamId
from fleek.store.migrate import migrate
from fleek.store.updates import Update, _apply_all, _Request, apply
from samples import a_job

START = Cursor(0)


async def accepted(db: Database, **fields: object) -> Job:
    """Accept a job."""
    job = a_job(**fields)
    await jobs.insert_job(db, job)
    return job


def mark(job: Job, _: object) -> Update:
    """Decide on a change that any job allows."""
    return Update(change=edit(job, {"favourite": True}, now=datetime.now(UTC)))


async def readable(db: Database, after: Cursor) -> list[StreamEvent]:
    """Return the events behind a cursor, by small pages."""
    found: list[StreamEvent] = []
    while part := await event_stream.page(db, "default", after=after, limit=2):
        found += part
        after = part[-1].cursor
    return found


async def read(db: Database, after: Cursor, number: int) -> list[StreamEvent]:
    """Return a number of events behind a cursor, which other transactions may delay."""
    while len(found := await readable(db, after)) < number:
        await asyncio.sleep(0.01)
    return found


def summary(found: list[StreamEvent]) -> list[tuple[JobId, int]]:
    """Return which events these are."""
    return [(one.job_id, one.event.seq) for one in found]


async def test_events_are_read_once_and_in_order_per_job(db: Database) -> None:
    """By pages, whatever shares a transaction."""
    begin = await event_stream.now(db)
    made = await asyncio.gather(*(accepted(db) for _ in range(5)))
    await asyncio.gather(*(apply(db, job.id, mark) for job in made))
    await asyncio.gather(*(apply(db, job.id, mark) for job in made))

    found = summary(await read(db, begin, 15))

    assert len(found) == len({*found}) == 15
    for job in made:
        assert [seq for job_id, seq in found if job_id == job.id] == [1, 2, 3]


async def test_events_of_other_tenants_are_excluded(db: Database) -> None:
    """For any cursor."""
    await accepted(db, tenant_id="other")
    mine = await accepted(db)

    found = await read(db, START, 1)

    assert summary(found) == [(mine.id, 1)]


async def test_a_stream_without_a_cursor_begins_with_new_events(db: Database) -> None:
    """Earlier events are left out."""
    await accepted(db)
    await read(db, START, 1)

    begin = await event_stream.now(db)
    later = await accepted(db)

    assert summary(await read(db, begin, 1)) == [(later.id, 1)]


async def test_a_late_commit_is_not_skipped(db: Database) -> None:
    """Events committed in the meantime wait for it."""
    slow, quick = await accepted(db), await accepted(db)
    await read(db, START, 2)
    begin = await event_stream.now(db)
    async with db.write() as tx:
        await _apply_all(tx, [_Request(slow.id, None, mark, None)])
        others = asyncio.create_task(apply(db, quick.id, mark))
        if db.kind == "postgresql":  # SQLite has one writer at a time
            await others
        while_open = summary(await readable(db, begin))
    await others
    after = summary(await read(db, begin, 2))

    assert while_open == []
    assert after == [(slow.id, 2), (quick.id, 2)]


async def test_a_rollback_does_not_delay_the_stream(db: Database) -> None:
    """Its number is missing."""
    job = await accepted(db)
    await read(db, START, 1)
    begin = await event_stream.now(db)
    with pytest.raises(RuntimeError):
        await failing(db, job)
    await apply(db, job.id, mark)

    assert summary(await read(db, begin, 1)) == [(job.id, 2)]


async def failing(db: Database, job: Job) -> None:
    """Change a job in a transaction that fails."""
    async with db.write() as tx:
        await _apply_all(tx, [_Request(job.id, None, mark, None)])
        raise RuntimeError


async def test_the_number_of_a_removed_event_is_not_reused(db: Database) -> None:
    """Readers of the latest event get the next one, although the latest was removed."""
    job = await accepted(db)
    latest = (await read(db, START, 1))[-1].cursor
    async with db.write() as tx:
        await tx.execute(text("DELETE FROM events"))
    if db.kind == "sqlite":
        async with db.read() as tx:
            await tx.execute(text("PRAGMA query_only=OFF"))
            await tx.execute(text("VACUUM"))
    await apply(db, job.id, mark)

    assert summary(await read(db, latest, 1)) == [(job.id, 2)]


async def test_a_copied_database_continues_with_higher_numbers(db: Database) -> None:
    """Transaction ids of the new PostgreSQL server are lower than those of the copied events."""
    job = await accepted(db)
    async with db.write() as tx:
        await tx.execute(text("UPDATE event_stream SET position = position + 1000000"))
        await tx.execute(text("UPDATE events SET position = position + 1000000"))
        await tx.execute(text("UPDATE event_stream SET position = position - 500000"))
    if db.kind == "sqlite":  # a copied file contains its counter
        async with db.write() as tx:
            await tx.execute(text("UPDATE event_stream SET position = position + 500000"))
    await migrate(db)
    latest = (await read(db, START, 1))[-1].cursor

    await apply(db, job.id, mark)
    await migrate(db)
    await apply(db, job.id, mark)

    assert summary(await read(db, latest, 2)) == [(job.id, 2), (job.id, 3)]


def test_an_id_is_parsed_from_its_text_form() -> None:
    """It is sent in a header."""
    stream_id = StreamId(Cursor(12345, UUID(int=7), 3), 1785000000)

    assert StreamId.parse(str(stream_id)) == stream_id


@pytest.mark.parametrize(
    "given",
    [
        *("", "1", "1-2-3-4", "x" * 5000, f"1-1-{'0' * 32}-9999999999", f"1-1-{'G' * 32}-1"),
        *(f"{'9' * 19}-1-{'0' * 32}-1", f"1-1-{'0' * 32}-1\n", f"-1-1-{'0' * 32}-1"),
    ],
)
def test_an_invalid_id_is_none(given: str) -> None:
    """It never reaches the database."""
    assert StreamId.parse(given) is None
