"""A database outage is reported as "unavailable" or "full", and ends without intervention."""

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

from backing_services import SLOW_LOCKS, Postgres
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
LIMIT = 120  # seconds; includes the start of servers


@dataclass
class Load:
    """Concurrent callers with their accepted jobs and the errors that they received."""

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
        """Write outside of a batch."""
        await workers.register(self.db, a_worker())

    async def repeat(self, act: Callable[[], Awaitable[None]]) -> None:
        """Repeat a call whatever happens, as clients do."""
        while True:
            try:
                await act()
            except NotFound:
                pass
            except Exception as error:  # noqa: BLE001 - the test asserts on their types
                self.refusals.append(error)
            await asyncio.sleep(0.005)

    async def recovered(self) -> None:
        """Return as soon as more jobs are accepted than now."""
        enough = len(self.accepted) + 20
        while len(self.accepted) < enough:
            await asyncio.sleep(0.01)


async def under_load(db: Database, outage: Callable[[], None]) -> Load:
    """Cause an outage twice under load, and return when calls succeed again."""
    load = Load(db)
    acts = [*[load.submit] * 10, *[load.look] * 5, *[load.beat] * 5]
    callers = [asyncio.create_task(load.repeat(act)) for act in acts]
    async with asyncio.timeout(LIMIT):
        await load.recovered()
        for _ in range(2):
            await asyncio.to_thread(outage)
            await load.recovered()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    return load


async def check_after(load: Load) -> None:
    """Check that no accepted job was lost and that no connection is broken."""
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
    """Callers receive errors, and the pools recover without a restart of this process."""

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
async def test_too_many_connections_are_an_outage(database_url: str, postgres: Postgres) -> None:
    """It ends when another client leaves; a process starting then reports no wrong address."""
    role = f"role_{uuid4().hex}"
    postgres.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0 IN ROLE pg_write_all_data")
    async with open_database(database_url.replace("postgres@", f"{role}@")) as db:
        with pytest.raises(DatabaseUnavailable, match="too many connections"):
            await reach(db)

        postgres.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")

        await reach(db)


@ON_POSTGRES
async def test_an_overlong_statement_is_cancelled(database_url: str) -> None:
    """The connection stays usable."""
    async with open_database(database_url) as db:
        with pytest.raises(DatabaseUnavailable, match="statement timeout"):
            await _execute(db, "SELECT pg_sleep(60)", patience_ms=50)

        assert await _execute(db, "SELECT 1") == 1


@ON_POSTGRES
async def test_the_wait_for_a_lock_is_short(database_url: str) -> None:
    """A migration may hold the table for minutes, and refused jobs must not be stored later."""
    refused = [a_job() for _ in range(20)]
    url = database_url.removesuffix(SLOW_LOCKS)
    async with open_database(url) as other, open_database(url) as db:
        async with other.write() as tx:
            await tx.execute(text("LOCK TABLE jobs IN EXCLUSIVE MODE"))
            answers = await asyncio.gather(
                *(jobs.insert_job(db, job, patience=timedelta(minutes=1)) for job in refused),
                return_exceptions=True,
            )
            assert (
                await listing.page(db, tenant_id="default", limit=1)
            ).views == []  # reads still work

        assert {type(answer) for answer in answers} == {Overloaded}
        await jobs.insert_job(db, accepted := a_job())
        page = (await listing.page(db, tenant_id="default", limit=50)).views
        assert [view.job.id for view in page] == [accepted.id]


@ON_POSTGRES
async def test_a_read_only_server_is_disconnected(database_url: str, postgres: Postgres) -> None:
    """After a failover the old server may respond for days as a replica."""
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

        await jobs.insert_job(db, a_job())  # on a new connection

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
async def test_a_read_only_server_is_an_outage(database_url: str) -> None:
    """A replica stays so until it is promoted."""
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
async def test_errors_of_the_server_are_translated(
    db: Database, state: str, kind: type[FleekError]
) -> None:
    """By their code, not by their text. Source: PostgreSQL, appendix A."""
    with pytest.raises(kind):
        await _execute(db, f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")


@pytest.mark.parametrize(
    "error", [TimeoutError(), ConnectionResetError("reset"), OSError(28, "No space left")]
)
def test_a_broken_connection_is_an_outage(error: OSError) -> None:
    """For any error of the operating system."""
    with pytest.raises(DatabaseUnavailable), translated():
        raise error


@ON_SQLITE
async def test_the_wait_for_another_writer_is_limited(database_url: str) -> None:
    """The caller receives an error, and later calls succeed again."""
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
async def test_a_write_refused_because_of_a_lock_is_not_written_later(database_url: str) -> None:
    """The caller may repeat it without storing it twice."""
    other = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
    async with open_database(database_url) as db:
        await db.check()  # connects
        other.execute("BEGIN IMMEDIATE")
        refused = [
            asyncio.create_task(jobs.insert_job(db, a_job(), patience=A_MOMENT)) for _ in range(20)
        ]
        answers = await asyncio.gather(*refused, return_exceptions=True)
        assert {type(answer) for answer in answers} == {Overloaded}
        assert (
            await listing.page(db, tenant_id="default", limit=1)
        ).views == []  # reads still work
        other.execute("ROLLBACK")

        await jobs.insert_job(db, accepted := a_job())

        page = (await listing.page(db, tenant_id="default", limit=50)).views
        assert [view.job.id for view in page] == [accepted.id]
    other.close()


@ON_SQLITE
async def test_a_read_only_connection_is_replaced(db: Database) -> None:
    """If the file was read-only when it was opened, it stays so."""
    async with db.write() as tx:
        await tx.execute(text("PRAGMA query_only = ON"))
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        await jobs.insert_job(db, a_job())

    await jobs.insert_job(db, kept := a_job())

    assert await jobs.get_any_tenant(db, kept.id) == kept


@ON_SQLITE
async def test_callers_do_not_queue_for_ever_behind_a_writer(database_url: str) -> None:
    """The wait for the process's own writer has the same limit."""
    async with open_database(database_url, patience=A_MOMENT) as db, db.write():
        with pytest.raises(DatabaseUnavailable):
            await workers.register(db, a_worker())


@ON_SQLITE
async def test_a_full_disk_is_reported_and_recovers(db: Database) -> None:
    """Accepted jobs stay, refused ones do not exist, and with free space writes succeed again."""
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
async def test_a_corrupt_file_is_an_outage(database_url: str) -> None:
    """There is no traceback; `fleek doctor` gives details."""
    await asyncio.to_thread(_spoil, Path(database_url.removeprefix("sqlite:///")))

    async with open_database(database_url) as db:
        with pytest.raises(DatabaseUnavailable):
            await jobs.insert_job(db, a_job())


async def test_a_cancelled_write_leaves_no_lock(db: Database) -> None:
    """A task may be cancelled at any await, and must leave neither a lock nor half a row."""
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


class Disconnecting(Database):
    """Loses the connection after the commit, or before."""

    commits = True

    async def grouped_write(self, write: Any, item: Any, **options: Any) -> Any:
        """Write, or not; the response is lost in any case."""
        if self.commits:
            await super().grouped_write(write, item, **options)
        raise DatabaseUnavailable("the connection was lost")


async def test_a_response_lost_after_the_commit_is_no_error(db: Database) -> None:
    """The job is stored, and an error would make the caller submit it twice."""
    job = a_job()

    await jobs.insert_job(Disconnecting(db._writer, db._reader, url=db._url), job)

    assert await jobs.get_any_tenant(db, job.id) == job


async def test_a_response_lost_before_the_commit_is_an_error(db: Database) -> None:
    """Nothing is stored, and the caller is informed."""
    disconnecting = Disconnecting(db._writer, db._reader, url=db._url)
    disconnecting.commits = False

    with pytest.raises(DatabaseUnavailable):
        await jobs.insert_job(disconnecting, a_job())


async def _execute(db: Database, statement: str, *, patience_ms: int = 0) -> Any:
    async with db.write() as tx:
        if patience_ms:  # of the server, for this statement only
            await tx.execute(text(f"SET LOCAL statement_timeout = {patience_ms}"))
        result = await tx.execute(text(statement))
        return result.scalar() if result.returns_rows else None
