"""A pooler in transaction mode: PgBouncer, as hosting providers run it."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import event, text

from backing_services import Postgres
from fleek.domain.errors import Overloaded
from fleek.store import jobs, listing
from fleek.store.database import Database, open_database, reach
from fleek.store.jobs import SELECT_VERSIONS
from fleek.store.migrate import migrate
from fleek.store.postgres import SESSION
from fleek.store.updates import apply
from pgbouncer import pgbouncer
from samples import a_job, claims


@pytest.fixture
def pooled_url(postgres: Postgres) -> Iterator[str]:
    """Yield the address of an empty database behind a PgBouncer."""
    name = postgres.create()
    with pgbouncer(postgres, name) as url:
        yield url
    postgres.drop(name)


@pytest.mark.parametrize("query", ["", "&pgbouncer=true", "&application_name=us"])
async def test_all_operations_work_through_a_transaction_pooler(
    pooled_url: str, query: str
) -> None:
    """Announced in the address or not; concurrent calls make it switch servers."""
    async with open_database(pooled_url + query) as db:
        await reach(db)
        await migrate(db)

        accepted = [a_job() for _ in range(60)]
        await asyncio.gather(*(jobs.insert_job(db, job) for job in accepted[:30]))
        await asyncio.gather(*(apply(db, job.id, claims()) for job in accepted[:30]))
        await asyncio.gather(*(jobs.insert_job(db, job) for job in accepted[30:]))

        pages = [listing.page(db, tenant_id="default", limit=100) for _ in range(30)]
        assert {len(page.views) for page in await asyncio.gather(*pages)} == {60}
        found = await asyncio.gather(*(jobs.get_any_tenant(db, job.id) for job in accepted))
        assert [job.id for job in found] == [job.id for job in accepted]


async def test_each_transaction_applies_its_settings(pooled_url: str) -> None:
    """Settings of a session would apply to the next client of its server."""
    async with open_database(f"{pooled_url}&schema=elsewhere") as db:
        async with db.write() as tx:
            await tx.execute(text("CREATE SCHEMA elsewhere"))
            set_now = {
                name: await tx.scalar(text(f"SELECT current_setting('{name}')"))
                for name in SESSION
            }
            where = await tx.scalar(text("SELECT current_schema()"))

        assert set_now == {
            "jit": "off",
            "idle_in_transaction_session_timeout": "15s",
            "lock_timeout": "500ms",
            "statement_timeout": "25s",
        }
        assert where == "elsewhere"


async def test_the_wait_for_a_lock_is_short_behind_a_pooler(pooled_url: str) -> None:
    """The same holds without a pooler."""
    async with open_database(pooled_url) as other, open_database(pooled_url) as db:
        await migrate(db)
        async with other.write() as tx:
            await tx.execute(text("LOCK TABLE jobs IN EXCLUSIVE MODE"))

            with pytest.raises(Overloaded):
                await jobs.insert_job(db, a_job(), patience=timedelta(minutes=1))


async def test_a_reader_who_goes_away_costs_no_connection(pooled_url: str) -> None:
    """What it has begun is ended without it, as its connection is good for the next one."""
    connected: list[object] = []
    async with open_database(pooled_url) as db:
        await migrate(db)
        pool = db._reader
        event.listen(pool, "connect", lambda *new: connected.append(new))
        for _ in range(3):
            has_read, returned = asyncio.Event(), asyncio.Event()
            event.listen(pool, "checkin", lambda *_, returned=returned: returned.set())
            caller = asyncio.create_task(_read(db, has_read))
            await has_read.wait()
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
            await returned.wait()

        assert len(connected) <= 1


async def _read(db: Database, has_read: asyncio.Event) -> None:
    async with db.read() as tx:
        await SELECT_VERSIONS.rows(tx, ids=[a_job().id])
        has_read.set()
