"""The audit log: a hash chain, written with each action by one transaction after the other."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from fleek.domain.api_keys import KeyId
from fleek.domain.audit import COMMAND_LINE, Action, Actor, AuditEntry, entry
from fleek.domain.errors import NotFound
from fleek.domain.job import JobId, Status
from fleek.domain.media import Part
from fleek.domain.transitions import purge
from fleek.store import api_keys, audit, jobs
from fleek.store.database import Database
from fleek.store.updates import Update, apply
from samples import NOON, SECOND, a_job

LINE = entry(
    Action.KEY_CREATED,
    "abc",
    by=Actor("key", "request"),
    tenant_id="acme",
    at=NOON,
    name="schlüssel",
    scopes=["a", "b"],
)


async def write(db: Database, *entries: AuditEntry) -> None:
    """Write entries in one transaction."""
    async with db.write() as tx:
        await audit.record(tx, *entries)


async def test_entries_are_read_as_they_were_written(db: Database) -> None:
    """Newest first, numbered without gaps, of one tenant or of all."""
    other = replace(LINE, tenant_id="other", at=NOON + SECOND)
    await write(db, LINE, other)
    await write(db, LINE)

    everything = await audit.latest(db, limit=9)

    assert everything == [(3, LINE), (2, other), (1, LINE)]
    assert await audit.latest(db, limit=1) == everything[:1]
    assert await audit.latest(db, limit=9, tenant_id="other") == [(2, other)]
    assert await audit.verify(db) == (3, None)


async def test_many_transactions_write_one_chain(db: Database) -> None:
    """One after the other, whatever else they do."""
    await asyncio.gather(*(write(db, LINE, LINE) for _ in range(10)))

    assert await audit.verify(db) == (20, None)


async def test_the_check_covers_all_pages(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise later entries would count as correct."""
    monkeypatch.setattr(audit, "PAGE", 2)
    await write(db, *[LINE] * 5)
    await _execute(db, "UPDATE audit SET target = 'x' WHERE number = 5")

    assert await audit.verify(db) == (4, 5)


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE audit SET actor = 'x' WHERE number = 2", 2),
        ("UPDATE audit SET request_id = NULL WHERE number = 2", 2),
        ("UPDATE audit SET detail = '{}' WHERE number = 3", 3),
        ("UPDATE audit SET number = 9 WHERE number = 3", 3),
        ("DELETE FROM audit WHERE number = 1", 1),
        ("DELETE FROM audit WHERE number = 3", 3),
    ],
)
async def test_a_later_change_is_detected(db: Database, statement: str, broken: int) -> None:
    """A missing latest entry is detected, too."""
    await write(db, LINE, LINE, LINE)

    await _execute(db, statement)

    assert await audit.verify(db) == (broken - 1, broken)


async def test_an_entry_is_written_in_the_transaction_of_its_action(db: Database) -> None:
    """A rolled-back action leaves no entry."""
    job = a_job()
    await jobs.insert_job(db, job)

    def decide(*_: object) -> Update:
        raise NotFound("changed meanwhile")

    async def interrupted() -> None:
        async with db.write() as tx:
            await audit.record(tx, LINE)
            raise NotFound("an error after the line")

    with pytest.raises(NotFound):
        await apply(db, job.id, decide)
    with pytest.raises(NotFound):
        await interrupted()
    with pytest.raises(NotFound):
        await api_keys.revoke(db, KeyId("a" * 12), now=NOON, audit=lambda _: LINE)

    assert await audit.latest(db, limit=9) == []
    assert await audit.verify(db) == (0, None)


async def test_updates_of_jobs_write_their_entries(db: Database) -> None:
    """This holds for updates that share a transaction, too."""
    made = [a_job(status=Status.CANCELLED, completed_at=NOON) for _ in range(3)]
    for job in made:
        await jobs.insert_job(db, job)

    async def purged(job_id: JobId) -> None:
        line = entry(Action.JOB_PURGED, str(job_id), by=COMMAND_LINE, tenant_id="default", at=NOON)
        await apply(
            db,
            job_id,
            lambda job, _: Update(change=purge(job, tuple(Part), now=NOON), audit=line),
        )

    await asyncio.gather(*(purged(job.id) for job in made))

    found = await audit.latest(db, limit=9)
    assert {line.entry.target for line in found} == {str(job.id) for job in made}
    assert {line.entry.actor for line in found} == {"command line"}
    assert await audit.verify(db) == (3, None)


async def _execute(db: Database, statement: str) -> None:
    async with db.write() as tx:
        await tx.execute(text(statement))
