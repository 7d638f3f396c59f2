"""A database in trouble is "unavailable" or "full", never anything else, and comes back alone."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from backing_services import Postgres
from fleek.domain.errors import (
    DatabaseUnavailable,
    FleekError,
    InvalidInput,
    NotFound,
    Overloaded,
    StorageFull,
)
from fleek.domain.job import JobId, Status
from fleek.store import jobs, listing, queue, workers
from fleek.store.counters import count_jobs
from fleek.store.database import Database, open_database, reach
from fleek.store.errors import RowRefused, translated
from fleek.store.migrate import migrate
from fleek.store.updates import apply
from samples import NOON, a_job, a_worker, claims

ON_POSTGRES = pytest.mark.parametrize("database", ["postgresql"])
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"])
A_MOMENT = timedelta(milliseconds=50)
LIMIT = 120  # seconds; servers are started meanwhile


@dataclass
class Load:
    """Callers that never stop; what they were promised, and what they were told instead."""

    db: Database
    accepted: set[JobId] = field(default_factory=set)
    refusals: list[Exception] = field(default_factory=list)

    async def submit(self) -> None:
        """Accept a job and claim it."""
        job = a_job()
        await jobs.insert_job(self.db, job)
        self.accepted.add(job.id)
        await apply(self.db, job.id, claims())

    async def look(self) -> None:
        """Read in every way."""
        await listing.page(self.db, tenant_id="default", limit=5)
        await queue.due(self.db, providers=["fake"], now=NOON, limit=5)
        await jobs.get_any_tenant(self.db, a_job().id)

    async def beat(self) -> None:
        """Write alone."""
        await workers.register(self.db, a_worker())

    async def forever(self, act: Callable[[], Awaitable[None]]) -> None:
        """Go on, whatever happens, as callers do."""
        while True:
            try:
                await act()
            except NotFound:
                pass
            except Exception as error:  # noqa: BLE001 - which ones there are is the question
                self.refusals.append(error)
            await asyncio.sleep(0.005)

    async def goes_on(self) -> None:
        """Return as soon as more jobs are accepted than now."""
        enough = len(self.accepted) + 20
        while len(self.accepted) < enough:
            await asyncio.sleep(0.01)


async def under_load(db: Database, trouble: Callable[[], None]) -> Load:
    """Make trouble twice while callers go on; returns when they succeed again."""
    load = Load(db)
    acts = [*[load.submit] * 10, *[load.look] * 5, *[load.beat] * 5]
    callers = [asyncio.create_task(load.forever(act)) for act in acts]
    async with asyncio.timeout(LIMIT):
        await load.goes_on()
        for _ in range(2):
            await asyncio.to_thread(trouble)
            await load.goes_on()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    return load


async def check_after(load: Load) -> None:
    """Make sure that nothing promised was lost and that no connection is spoilt."""
    assert load.refusals
    assert all(isinstance(one, DatabaseUnavailable) for one in load.refusals), load.refusals
    async with load.db.read() as tx:
        found = {JobId(one) for one in await tx.scalars(text("SELECT id FROM jobs"))}
    assert load.accepted <= found
    await asyncio.gather(*(load.beat() for _ in range(40)))
    await asyncio.gather(*(listing.page(load.db, tenant_id="default", limit=1) for _ in range(40)))
    tally = await count_jobs(load.db, now=NOON)
    assert tally.total == len(found)
    assert tally.by_status[Status.PROCESSING] > 0


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_under_load_loses_nothing(own_postgres: Postgres, mode: Any) -> None:
    """Callers are told to come back; the pools recover without a restart of ours."""

    def restart() -> None:
        own_postgres.stop(mode)
        own_postgres.start()

    async with open_database(own_postgres.url()) as db:
        await migrate(db)

        load = await under_load(db, restart)

        await check_after(load)


@ON_POSTGRES
async def test_killed_connections_are_replaced(database_url: str, postgres: Postgres) -> None:
    """An administrator or the kernel may end any of them at any moment."""
    name = database_url.rpartition("/")[2].partition("?")[0]

    def kill() -> None:
        postgres.disconnect(name)

    async with open_database(database_url) as db:
        load = await under_load(db, kill)

        await check_after(load)


@ON_POSTGRES
async def test_a_server_full_of_clients_is_unavailable(
    database_url: str, postgres: Postgres
) -> None:
    """Until one of them leaves; a process that starts then is not told that its address is wrong."""
    role = f"role_{uuid4().hex}"
    postgres.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0 IN ROLE pg_write_all_data")
    async with open_database(database_url.replace("postgres@", f"{role}@")) as db:
        with pytest.raises(DatabaseUnavailable, match="too many connections"):
            await reach(db)

        postgres.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")

        await reach(db)


@ON_POSTGRES
async def test_a_statement_that_takes_too_long_is_given_up(database_url: str) -> None:
    """The connection is good afterwards."""
    async with open_database(database_url) as db:
        with pytest.raises(DatabaseUnavailable, match="statement timeout"):
            await _execute(db, "SELECT pg_sleep(60)", patience_ms=50)

        assert await _execute(db, "SELECT 1") == 1


@ON_POSTGRES
async def test_a_lock_is_not_waited_for_for_long(database_url: str) -> None:
    """A migration of somebody else may hold the table for minutes; what was refused is not there."""
    refused = [a_job() for _ in range(20)]
    async with open_database(database_url) as other, open_database(database_url) as db:
        async with other.write() as tx:
            await tx.execute(text("LOCK TABLE jobs IN EXCLUSIVE MODE"))
            answers = await asyncio.gather(
                *(jobs.insert_job(db, job, patience=timedelta(minutes=1)) for job in refused),
                return_exceptions=True,
            )
            assert (
                await listing.page(db, tenant_id="default", limit=1)
            ).views == []  # reads go on

        assert {type(answer) for answer in answers} == {Overloaded}
        await jobs.insert_job(db, accepted := a_job())
        page = (await listing.page(db, tenant_id="default", limit=50)).views
        assert [view.job.id for view in page] == [accepted.id]


@ON_POSTGRES
async def test_what_only_reads_now_is_not_connected_to_any_more(
    database_url: str, postgres: Postgres
) -> None:
    """After a failover the old server may answer for days, as a replica."""
    name = database_url.rpartition("/")[2].partition("?")[0]
    async with open_database(database_url) as db:
        await jobs.insert_job(db, a_job())
        before = await _backend(db)
        postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        postgres.disconnect(name)
        async with asyncio.timeout(LIMIT):
            while not isinstance(error := await _refusal(db), DatabaseUnavailable) or (
                "read-only" not in str(error)
            ):
                await asyncio.sleep(0)
        postgres.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')

        await jobs.insert_job(db, a_job())  # on a connection of its own accord

        assert await _backend(db) != before


async def _refusal(db: Database) -> Exception | None:
    try:
        await jobs.insert_job(db, a_job())
    except DatabaseUnavailable as error:
        return error
    return None


async def _backend(db: Database) -> int:
    async with db.read() as tx:
        return int(await tx.scalar(text("SELECT pg_backend_pid()")) or 0)


@ON_POSTGRES
async def test_a_server_that_only_reads_is_unavailable(database_url: str) -> None:
    """So it is while another one takes over."""
    async with open_database(f"{database_url}&default_transaction_read_only=on") as db:
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await jobs.insert_job(db, a_job())


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        *(("57P01", DatabaseUnavailable), ("57P03", DatabaseUnavailable)),
        *(("08006", DatabaseUnavailable), ("40P01", DatabaseUnavailable)),
        *(("53200", DatabaseUnavailable), ("XX000", DatabaseUnavailable)),
        *(("25006", DatabaseUnavailable), ("57014", DatabaseUnavailable)),
        *(("42501", DatabaseUnavailable), ("42P01", DatabaseUnavailable)),
        *(("40001", DatabaseUnavailable), ("53300", DatabaseUnavailable)),
        *(("55P03", Overloaded), ("26000", DatabaseUnavailable)),
        *(("53100", StorageFull), ("22021", InvalidInput), ("22003", InvalidInput)),
        *(("23503", RowRefused), ("23514", RowRefused)),
    ],
)
@ON_POSTGRES
async def test_whatever_the_server_says_is_told_in_our_words(
    db: Database, state: str, kind: type[FleekError]
) -> None:
    """By the code of its message, not by its words. Source: PostgreSQL, appendix A."""
    with pytest.raises(kind):
        await _execute(db, f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")


@pytest.mark.parametrize(
    "error", [TimeoutError(), ConnectionResetError("reset"), OSError(28, "No space left")]
)
def test_a_broken_connection_is_unavailable(error: OSError) -> None:
    """Whatever the operating system calls it."""
    with pytest.raises(DatabaseUnavailable), translated():
        raise error


@ON_SQLITE
async def test_a_file_that_another_process_writes_to_is_waited_for(database_url: str) -> None:
    """Not for ever: the caller is told to come back; then it works again."""
    other = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
    async with open_database(database_url, patience=A_MOMENT) as db:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable, match="locked"):
            await jobs.insert_job(db, a_job())
        with pytest.raises(DatabaseUnavailable, match="locked"):
            await reach(db)
        assert (await listing.page(db, tenant_id="default", limit=1)).views == []

        other.execute("ROLLBACK")

        await jobs.insert_job(db, a_job())
    other.close()


@ON_SQLITE
async def test_what_another_process_keeps_waiting_is_not_written_later(database_url: str) -> None:
    """However long it holds its lock: who was refused may ask again without having it twice."""
    other = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
    async with open_database(database_url) as db:
        await db.check()  # it is connected
        other.execute("BEGIN IMMEDIATE")
        refused = [
            asyncio.create_task(jobs.insert_job(db, a_job(), patience=A_MOMENT)) for _ in range(20)
        ]
        answers = await asyncio.gather(*refused, return_exceptions=True)
        assert {type(answer) for answer in answers} == {Overloaded}
        assert (await listing.page(db, tenant_id="default", limit=1)).views == []  # reads go on
        other.execute("ROLLBACK")

        await jobs.insert_job(db, accepted := a_job())

        page = (await listing.page(db, tenant_id="default", limit=50)).views
        assert [view.job.id for view in page] == [accepted.id]
    other.close()


@ON_SQLITE
async def test_a_connection_that_may_only_read_is_replaced(db: Database) -> None:
    """One that was opened while the file was read-only stays so, whatever becomes of the file."""
    async with db.write() as tx:
        await tx.execute(text("PRAGMA query_only = ON"))
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        await jobs.insert_job(db, a_job())

    await jobs.insert_job(db, kept := a_job())

    assert await jobs.get_any_tenant(db, kept.id) == kept


@ON_SQLITE
async def test_callers_do_not_queue_for_ever_behind_a_writer(database_url: str) -> None:
    """The process's own writer has the same patience."""
    async with open_database(database_url, patience=A_MOMENT) as db, db.write():
        with pytest.raises(DatabaseUnavailable):
            await workers.register(db, a_worker())


@ON_SQLITE
async def test_a_full_disk_is_told_and_heals(db: Database) -> None:
    """What was accepted stays; what was refused is not there; with room, it goes on."""
    accepted = a_job()
    await jobs.insert_job(db, accepted)
    large = a_job(prompt="x" * 10_000)
    pages = await _execute(db, "PRAGMA page_count")
    await _execute(db, f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StorageFull):
        await jobs.insert_job(db, large)

    await _execute(db, "PRAGMA max_page_count = 1000000")
    with pytest.raises(NotFound):
        await jobs.get_any_tenant(db, large.id)
    await jobs.insert_job(db, large)
    assert (await count_jobs(db, now=NOON)).total == 2
    assert await jobs.get_any_tenant(db, accepted.id) == accepted


@ON_SQLITE
async def test_a_file_that_was_spoilt_is_unavailable(database_url: str) -> None:
    """Never a traceback; `fleek doctor` says more."""
    await asyncio.to_thread(_spoil, Path(database_url.removeprefix("sqlite:///")))

    async with open_database(database_url) as db:
        with pytest.raises(DatabaseUnavailable):
            await jobs.insert_job(db, a_job())


async def test_a_cancelled_write_harms_nobody(db: Database) -> None:
    """A task may be cancelled at any of its awaits: no lock and no half row stays."""
    for turns in range(40):
        writer = asyncio.create_task(workers.register(db, a_worker()))
        for _ in range(turns):
            await asyncio.sleep(0)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)

    async with asyncio.timeout(LIMIT):
        await workers.register(db, a_worker())
        await db.check()


def _spoil(path: Path) -> None:
    path.write_bytes(b"nonsense" * 1000)


class Forgetful(Database):
    """Loses the connection after the commit, or before."""

    commits = True

    async def grouped_write(self, write: Any, item: Any, **options: Any) -> Any:
        """Write, or not; the answer is lost anyway."""
        if self.commits:
            await super().grouped_write(write, item, **options)
        raise DatabaseUnavailable("the connection was lost")


async def test_an_answer_that_was_lost_after_the_commit_is_found(db: Database) -> None:
    """The job is there: telling the caller otherwise would make it twice."""
    job = a_job()

    await jobs.insert_job(Forgetful(db._writer, db._reader, url=db._url), job)

    assert await jobs.get_any_tenant(db, job.id) == job


async def test_an_answer_that_was_lost_before_the_commit_is_a_refusal(db: Database) -> None:
    """Nothing is there, and the caller knows."""
    forgetful = Forgetful(db._writer, db._reader, url=db._url)
    forgetful.commits = False

    with pytest.raises(DatabaseUnavailable):
        await jobs.insert_job(forgetful, a_job())


async def _execute(db: Database, statement: str, *, patience_ms: int = 0) -> Any:
    async with db.write() as tx:
        if patience_ms:  # of the server with this statement, and no other
            await tx.execute(text(f"SET LOCAL statement_timeout = {patience_ms}"))
        result = await tx.execute(text(statement))
        return result.scalar() if result.returns_rows else None
