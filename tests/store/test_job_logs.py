"""Logs of jobs: pieces in order, no more than the latest 256 KiB, and nothing after a purge."""

import asyncio
from dataclasses import replace

from sqlalchemy import delete

from fleek.domain.job import Change, JobId
from fleek.domain.provider_logs import LEFT_OUT, MAX_BYTES, PredictionLog
from fleek.store import job_logs, jobs
from fleek.store.database import Database
from fleek.store.purges import OF_JOBS
from fleek.store.tables import JobLogRow, JobRow
from fleek.store.updates import Update, apply
from samples import NOON, a_job


async def a_stored_job(db: Database) -> JobId:
    """Accept a job."""
    return (await jobs.insert_job(db, a_job())).job.id


async def show(db: Database, job_id: JobId, text: str, *, attempt: int = 1) -> None:
    """Store a state of a log."""
    await apply(db, job_id, lambda *_: Update(log=PredictionLog(attempt, text)))


async def text_of(db: Database, job_id: JobId) -> str:
    """Return the whole stored log."""
    return "".join(piece.text for piece in await job_logs.of_job(db, job_id))


async def test_each_state_adds_its_new_text(db: Database) -> None:
    """Pieces are numbered without gaps, over all attempts."""
    job_id, other = await a_stored_job(db), await a_stored_job(db)

    await show(db, job_id, "one\r\n")
    await show(db, job_id, "one\r\n")
    await show(db, other, "else\n")
    await show(db, job_id, "one\r\ntwo\n")
    await show(db, job_id, "again\n", attempt=2)
    await show(db, job_id, "one\r\ntwo\nthree\n")

    assert await job_logs.of_job(db, job_id) == [
        (1, 1, "one\r\n"),
        (2, 1, "two\n"),
        (3, 2, "again\n"),
        (4, 1, "three\n"),
    ]
    assert [piece.seq for piece in await job_logs.of_job(db, job_id, after=3)] == [4]
    assert await job_logs.latest(db, job_id) == 4
    assert await text_of(db, other) == "else\n"


async def test_concurrent_states_are_stored_once(db: Database) -> None:
    """A poll and a callback may report the same end."""
    job_id = await a_stored_job(db)

    await asyncio.gather(*(show(db, job_id, "a\n" * count) for count in (1, 2, 3, 3, 3)))

    assert await text_of(db, job_id) == "a\n" * 3


async def test_the_oldest_pieces_are_removed(db: Database) -> None:
    """The end of a log matters most; `position` counts removed text, too."""
    job_id = await a_stored_job(db)
    lines = [f"line {number}: █████\n" for number in range(20_000)]

    for end in range(1000, 20_001, 1000):
        await show(db, job_id, "".join(lines[:end]))

    pieces = await job_logs.of_job(db, job_id)
    kept = "".join(piece.text for piece in pieces)
    assert "".join(lines).endswith(kept)
    assert MAX_BYTES - 2 * job_logs.MAX_PIECE < len(kept.encode()) <= MAX_BYTES
    assert pieces[0].seq > 1


async def test_a_long_log_is_stored_in_pieces(db: Database) -> None:
    """No row is large."""
    job_id = await a_stored_job(db)
    text = "x" * 60_000 + LEFT_OUT + "y" * 30_000

    await show(db, job_id, text)

    assert await text_of(db, job_id) == text
    assert {len(piece.text) <= job_logs.PIECE for piece in await job_logs.of_job(db, job_id)} == {
        True
    }


async def test_nothing_is_stored_after_a_purge(db: Database) -> None:
    """The prediction may end later."""
    job_id = await a_stored_job(db)
    await show(db, job_id, "secret\n")

    await apply(
        db,
        job_id,
        lambda job, _: Update(
            change=Change(replace(job, metadata_purged_at=NOON), "purged"), drops_logs=True
        ),
    )
    await show(db, job_id, "secret\nmore\n")

    assert await job_logs.of_job(db, job_id) == []


async def test_an_earlier_release_can_remove_jobs_with_logs(db: Database) -> None:
    """During a rolling upgrade it removes rows of the tables that it has."""
    job_id = await a_stored_job(db)
    await show(db, job_id, "one\n")

    async with db.write() as tx:
        for table in OF_JOBS:
            if table.name != JobLogRow.__tablename__:
                await tx.execute(delete(table).where(table.c.job_id == job_id))
        await tx.execute(delete(JobRow).where(JobRow.id == job_id))

    assert await text_of(db, job_id) == ""
