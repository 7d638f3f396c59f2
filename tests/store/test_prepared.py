"""Prepared statements do what SQLAlchemy does with them, and fail as it does."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import bindparam, event, func, insert, select, text, update

from fleek.domain.errors import DatabaseUnavailable, InvalidInput
from fleek.store import rows
from fleek.store.attempts import SELECT_ATTEMPTS
from fleek.store.database import Database
from fleek.store.errors import RowRefused
from fleek.store.jobs import INSERT_JOBS, SELECT_JOBS
from fleek.store.prepared import Query, Write
from fleek.store.tables import JobRow, TenantRow
from fleek.store.updates import INSERT_ATTEMPTS, JOBS
from samples import NOON, a_job, an_attempt
from store.test_rows import FULL_ATTEMPT, FULL_JOB

ADD_TENANTS = Write(insert(TenantRow), columns=("id", "created_at"))
COUNT_TENANTS = Query[Any](
    select(TenantRow.id, func.count().over().label("all"))
    .where(TenantRow.id.in_(bindparam("ids", expanding=True)), TenantRow.id.not_in(["a", "b"]))
    .order_by(TenantRow.id)
    .limit(2)
)
ONE_TENANT = Query[Any](select(TenantRow.id).where(TenantRow.id == bindparam("id")))
SLOW = {
    "postgresql": "SELECT pg_sleep(20)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500000)"
    " SELECT count(*) FROM n",
}
READ_JOBS = select(JOBS).where(JobRow.id.in_(bindparam("ids", expanding=True))).order_by(JobRow.id)

FAILING = """CREATE FUNCTION fail() RETURNS text LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'cache lookup failed' USING ERRCODE = 'XX000'; END $$"""


@contextmanager
def heard(db: Database) -> Iterator[list[tuple[str, bool]]]:
    """Yield the statements that the writer's listeners hear of, and whether each is for many rows."""
    found: list[tuple[str, bool]] = []

    def listen(_: Any, __: Any, statement: str, ___: Any, ____: Any, many: bool) -> None:  # noqa: FBT001 - SQLAlchemy calls it so
        found.append((statement.split(maxsplit=1)[0], many))

    engine = db._writer
    event.listen(engine, "before_cursor_execute", listen)
    yield found
    event.remove(engine, "before_cursor_execute", listen)


async def test_rows_are_written_and_read_as_by_sqlalchemy(db: Database) -> None:
    """Both write what the other reads, with all optional fields and without."""
    ours, theirs = [a_job(), FULL_JOB], [a_job(), replace(FULL_JOB, id=a_job().id)]
    async with db.write() as tx:
        await INSERT_JOBS.run(tx, ours)
        await tx.execute(insert(JobRow), [rows.JOB.values(job) for job in theirs])

    ids = {"ids": sorted(job.id for job in (*ours, *theirs))}
    async with db.read() as tx:
        read_by_us = await SELECT_JOBS.values(tx, **ids)
        read_by_it = [rows.JOB.read(row) for row in (await tx.execute(READ_JOBS, ids)).mappings()]

    expected = sorted([*ours, *theirs], key=lambda job: job.id)
    assert sorted(read_by_us, key=lambda job: job.id) == read_by_it == expected


async def test_attempts_are_read_as_they_were_written(db: Database) -> None:
    """They have fractions, documents, enums and bytes."""
    job = a_job()
    attempts = [an_attempt(job), replace(FULL_ATTEMPT, job_id=job.id)]
    async with db.write() as tx:
        await INSERT_JOBS.run(tx, [job])
        await INSERT_ATTEMPTS.run(tx, attempts)

    async with db.read() as tx:
        found = await SELECT_ATTEMPTS.values(tx, ids=[attempt.id for attempt in attempts])

    assert sorted(found, key=lambda one: one.id) == sorted(attempts, key=lambda one: one.id)


async def test_lists_of_each_length_and_constants_are_parameters(db: Database) -> None:
    """Each length is a text of its own, which a later call of that length takes again."""
    async with db.write() as tx:
        await ADD_TENANTS.run(tx, [{"id": name, "created_at": NOON} for name in "abcdef"])

    async with db.read() as tx:
        found = [await COUNT_TENANTS.rows(tx, ids=list(ids)) for ids in ("abcd", "ef", "cde", "f")]

    assert found == [[("c", 2), ("d", 2)], [("e", 2), ("f", 2)], [("c", 3), ("d", 3)], [("f", 1)]]


async def test_what_an_update_returns_is_decoded(db: Database) -> None:
    """As what a select finds: SQLite keeps a time as text."""
    touched = update(TenantRow).where(TenantRow.id == bindparam("_id")).values(disabled_at=NOON)
    returned = Query[Any](touched.returning(TenantRow.created_at, TenantRow.disabled_at))
    async with db.write() as tx:
        await ADD_TENANTS.run(tx, [{"id": "a", "created_at": NOON}])

        assert await returned.rows(tx, _id="a") == [(NOON, NOON)]
        assert await returned.dicts(tx, _id="a") == [{"created_at": NOON, "disabled_at": NOON}]


async def test_nothing_to_write_is_no_statement(db: Database) -> None:
    """Callers need not look whether there is something."""
    with heard(db) as found:
        async with db.write() as tx:
            await ADD_TENANTS.run(tx, [])

    assert found in ([], [("BEGIN", False)])


async def test_those_who_count_statements_hear_of_it(db: Database) -> None:
    """Tests count what a job costs, and read the plans of what is sent."""
    with heard(db) as found:
        async with db.write() as tx:
            await ADD_TENANTS.run(tx, [{"id": "a", "created_at": NOON}])
            await COUNT_TENANTS.rows(tx, ids=["a"])

    assert found[-2:] == [("INSERT", True), ("SELECT", False)]


async def test_a_value_that_cannot_be_stored_is_refused(db: Database) -> None:
    """Before it is sent: a surrogate is no character, and no database takes it."""
    with pytest.raises(InvalidInput):
        async with db.write() as tx:
            await INSERT_JOBS.run(tx, [a_job(input={"text": "\ud800"})])


async def test_a_refused_row_names_the_constraint(db: Database) -> None:
    """The same error as from a statement of SQLAlchemy; nothing of the transaction stays."""
    job = a_job()
    errors: list[RowRefused] = []
    for write in (INSERT_JOBS.run, lambda tx, jobs: tx.execute(insert(JobRow), values(jobs))):
        with pytest.raises(RowRefused) as raised:
            async with db.write() as tx:
                await write(tx, [job, job])
        errors.append(raised.value)

    async with db.read() as tx:
        assert await SELECT_JOBS.values(tx, ids=[job.id]) == []
    assert errors[0].constraint == errors[1].constraint
    assert str(errors[0]) == str(errors[1])


def values(jobs: list[Any]) -> list[rows.Values]:
    """Return the rows of jobs."""
    return [rows.JOB.values(job) for job in jobs]


@pytest.mark.parametrize("opened", ["read", "write"])
async def test_a_caller_who_goes_away_leaves_no_connection_that_is_in_use(
    db: Database, opened: str
) -> None:
    """Its answer would come to the next caller, and its transaction would stay open."""
    slow = Query[Any](text(SLOW[db.kind]))
    sent = asyncio.Event()

    async def ask() -> None:
        async with db.read() if opened == "read" else db.write() as tx:
            sent.set()
            await slow.rows(tx)

    asking = asyncio.create_task(ask())
    await sent.wait()
    for _ in range(3):  # it is under way
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    async with db.write() as tx:
        await ADD_TENANTS.run(tx, [{"id": "a", "created_at": NOON}])
    async with db.read() as tx:
        assert await COUNT_TENANTS.rows(tx, ids=["a", "c"]) == []
        assert await ONE_TENANT.scalar(tx, id="a") == "a"
    assert db._reader.pool.checkedout() == 0  # type: ignore[attr-defined] # of such pools
    assert db._writer.pool.checkedout() == 0  # type: ignore[attr-defined] # likewise


async def test_a_statement_of_another_schema_is_prepared_again(db: Database) -> None:
    """A migration changes columns below running processes: a caller may fail, and no other."""
    ids = {"ids": ["a"]}
    async with db.read() as tx:
        before = await COUNT_TENANTS.rows(tx, **ids)
    if db.kind == "postgresql":
        async with db.write() as tx:
            await tx.execute(text("ALTER TABLE tenants ALTER COLUMN id TYPE VARCHAR(99)"))

    for _ in range(8):  # as many connections as there are
        try:
            async with db.read() as tx:
                await COUNT_TENANTS.rows(tx, **ids)
        except DatabaseUnavailable:
            continue
    async with db.read() as tx:
        assert await COUNT_TENANTS.rows(tx, **ids) == before


@pytest.mark.parametrize("database", ["postgresql"])
async def test_what_a_server_fails_over_is_prepared_again(db: Database) -> None:
    """As by SQLAlchemy: a type or table that was made again has another number."""
    async with db.write() as tx:
        await tx.execute(text(FAILING))
    dialect: Any = db._writer.dialect
    before = dialect._invalidate_schema_cache_asof

    with pytest.raises(DatabaseUnavailable, match="lookup failed"):
        async with db.write() as tx:
            await Query[Any](text("SELECT fail()")).rows(tx)

    assert dialect._invalidate_schema_cache_asof > before
