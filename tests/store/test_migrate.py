"""The schema is created once, also by concurrent processes, and never by an older release."""

import asyncio
import errno
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint, insert, inspect, text

from backing_services import apart
from fleek.domain.errors import ConfigurationError, DatabaseUnavailable, ResourcesExhausted
from fleek.domain.job import JobFilter
from fleek.store import jobs, listing
from fleek.store.database import Database, open_database, reach
from fleek.store.migrate import (
    HERE,
    MIGRATION_LOCK,
    VALID,
    _upgrade,
    autogenerate,
    migrate,
    revisions,
    up_to_date,
    upgrade,
)
from fleek.store.rows import JOB
from fleek.store.tables import JobRow, declared
from samples import a_job

UPGRADE = "import sys; from fleek.store.migrate import upgrade; print(upgrade(sys.argv[1]))"
DEFINITIONS = {
    "sqlite": "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
    "postgresql": "SELECT indexdef FROM pg_indexes WHERE indexname LIKE 'ix_%'"
    " AND indexname <> 'ix_jobs_words'",
}


@pytest.fixture
def empty_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of a database without a schema."""
    if database == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server = request.getfixturevalue("postgres")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
async def empty(empty_url: str) -> AsyncGenerator[Database]:
    """Return an open database without a schema."""
    async with open_database(empty_url) as db:
        yield db


async def test_an_empty_database_gets_the_schema(empty: Database) -> None:
    """Before, it is not up to date; afterwards, every table exists."""
    before = await up_to_date(empty)

    revision = await migrate(empty)

    assert not before
    assert await up_to_date(empty)
    assert (await empty.facts())["revision"] == revision
    async with empty.read() as tx:
        tables = await tx.run_sync(lambda connection: inspect(connection).get_table_names())
    assert {*declared().tables} < {*tables}


def test_the_files_are_named_by_their_revisions() -> None:
    """The latest one is known without loading Alembic, and Alembic agrees."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    scripts = ScriptDirectory.from_config(config)

    assert list(revisions()) == [script.revision for script in scripts.walk_revisions()][::-1]
    assert revisions()[-1] == scripts.get_current_head()


async def test_migrations_and_tables_do_not_differ(empty: Database) -> None:
    """Both describe the same schema."""
    await migrate(empty)

    async with empty.read() as tx:
        differences = await tx.run_sync(autogenerate)

    assert differences == []


async def test_the_definitions_of_indexes_are_identical(empty: Database) -> None:
    """Conditions of partial indexes included, which the comparison above leaves out."""
    await migrate(empty)

    async with empty.write() as tx:
        migrated = set(await tx.scalars(text(DEFINITIONS[empty.kind])))
        await tx.run_sync(declared().drop_all)
        await tx.run_sync(declared().create_all)
        expected = set(await tx.scalars(text(DEFINITIONS[empty.kind])))

    assert migrated == expected
    assert len([one for one in expected if " WHERE " in one]) == 33


def test_every_reference_begins_an_index() -> None:
    """Otherwise each removed row costs a scan of all rows that might refer to it."""
    loose = []
    for table in declared().tables.values():
        keys = [
            one
            for one in table.constraints
            if isinstance(one, UniqueConstraint | PrimaryKeyConstraint)
        ]
        firsts = {next(iter(one.columns)) for one in (*keys, *table.indexes)}
        loose += [column for column in table.c if column.foreign_keys and column not in firsts]

    assert loose == []


async def test_existing_prompts_can_be_searched(empty: Database) -> None:
    """They are added to the index when it is created."""
    async with empty.write() as tx:
        await tx.run_sync(_upgrade, "0013")
    job = a_job(prompt="A crow")
    async with empty.write() as tx:
        known = await tx.run_sync(lambda connection: inspect(connection).get_columns("jobs"))
        names = {column["name"] for column in known}
        values = {name: value for name, value in JOB.values(job).items() if name in names}
        await tx.execute(insert(JobRow), [values])

    await migrate(empty)

    page = await listing.page(empty, JobFilter(q="crow"), tenant_id="default", limit=9)
    assert [view.job.id for view in page.views] == [job.id]


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.usefixtures("_full_suite")  # it waits for longer than a statement may take
async def test_a_migration_may_take_longer_than_any_other_statement(
    empty: Database, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten million jobs it does; here it waits for another process for as long."""
    monkeypatch.setattr("fleek.store.postgres.COMMAND_SECONDS", 3)
    overdue = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory'"
        " AND now() - state_change > '3.5 s'"
    )
    async with open_database(empty_url) as db, empty.session() as other:
        await other.fetch(f"SELECT 1, pg_advisory_lock({MIGRATION_LOCK})")
        migration = asyncio.create_task(migrate(db))
        async with empty.read() as tx:
            while not (await tx.execute(text(overdue))).scalar():
                assert not migration.done()
        await other.fetch("SELECT 1, pg_advisory_unlock_all()")
        await migration

    assert await up_to_date(empty)


async def test_a_second_migration_changes_nothing(empty: Database) -> None:
    """Every start of the service runs it."""
    first = await migrate(empty)

    assert await migrate(empty) == first


@pytest.mark.usefixtures("_full_suite")
def test_two_processes_migrate_one_after_the_other(empty_url: str) -> None:
    """Both find the schema complete."""
    processes = [
        subprocess.Popen(  # noqa: S603 - this very Python
            [sys.executable, "-c", UPGRADE, empty_url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]

    answers = [process.communicate(timeout=120) for process in processes]

    assert [process.returncode for process in processes] == [0, 0], answers
    assert answers[0][0] == answers[1][0]


def test_the_command_line_s_upgrade_returns_the_revision(empty_url: str) -> None:
    """It runs an event loop of its own."""
    revision = apart(upgrade, empty_url)

    assert apart(upgrade, empty_url) == revision


async def test_a_newer_schema_is_refused(empty: Database) -> None:
    """An older release must not write to it; the error says what to do."""
    await migrate(empty)
    async with empty.write() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(ConfigurationError, match="revision 9999"):
        await migrate(empty)
    with pytest.raises(ConfigurationError, match="a newer one"):
        await up_to_date(empty)


async def test_a_failed_migration_leaves_no_changes(empty: Database) -> None:
    """It is one transaction, and can be repeated."""
    async with empty.write() as tx:
        await tx.execute(text("CREATE TABLE media (id INTEGER)"))

    with pytest.raises(Exception, match="media"):
        await migrate(empty)

    async with empty.read() as tx:
        tables = await tx.run_sync(lambda connection: inspect(connection).get_table_names())
    assert tables == ["media"]


async def test_a_lack_of_file_descriptors_is_no_schema_error(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The migration files cannot be listed, which says nothing about the database."""
    await migrate(empty)

    def exhausted(*_: object) -> list[str]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, exhausted)
    revisions.cache_clear()

    with pytest.raises(ResourcesExhausted, match="descriptors"):
        await up_to_date(empty)


@pytest.mark.parametrize("left", [0, 1, 3])
async def test_a_lack_of_file_descriptors_is_no_configuration_error(
    empty: Database, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """SQLite reports only that it cannot open the file."""
    free = iter(range(left))

    def refused() -> None:
        raise DatabaseUnavailable("unable to open database file")

    def exhausted(*_: object) -> int:
        for _number in free:
            return os.dup(0)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(empty, "write", refused)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", exhausted)
        with pytest.raises(ResourcesExhausted, match="descriptors"):
            await reach(empty)


LATEST_INDEX: Final = "ix_jobs_retries"
INTERRUPTED: Final = """UPDATE pg_index SET indisvalid = false
    WHERE indexrelid = (SELECT oid FROM pg_class WHERE relname = :name)"""
BUILDING: Final = "SELECT count(*) FROM pg_stat_progress_create_index"


async def index_exists(db: Database) -> bool:
    """Whether one of the indexes exists, and is complete."""
    async with db.read() as tx:
        valid = dict(map(tuple, await tx.execute(text(VALID[db.kind]))))
    return bool(valid.get(LATEST_INDEX))


async def test_a_missing_index_is_built(db: Database) -> None:
    """As after an upgrade: migrations do not build it, since that would block all writers."""
    async with db.write() as tx:
        await tx.execute(text(f"DROP INDEX {LATEST_INDEX}"))
    assert not await index_exists(db)

    await migrate(db)

    assert await index_exists(db)


@pytest.mark.parametrize("database", ["postgresql"])
async def test_an_interrupted_index_build_is_repeated(db: Database) -> None:
    """PostgreSQL keeps the invalid index without using it."""
    async with db.write() as tx:
        await tx.execute(text(INTERRUPTED), {"name": LATEST_INDEX})
    assert not await index_exists(db)

    await migrate(db)

    assert await index_exists(db)


@pytest.mark.parametrize("database", ["postgresql"])
async def test_writers_continue_while_an_index_is_built(db: Database, database_url: str) -> None:
    """The build waits for earlier transactions, but no writer waits for the build."""
    async with open_database(database_url) as other:
        async with other.write() as tx:
            await tx.execute(text(f"DROP INDEX {LATEST_INDEX}"))
        await jobs.insert_job(db, a_job())
        async with other.write() as open_one:
            await open_one.execute(text("UPDATE jobs SET progress = 0.5"))
            build = asyncio.create_task(migrate(db))
            while not await _count(db, BUILDING):
                assert not build.done()
                await asyncio.sleep(0.01)

            await jobs.insert_job(db, a_job(), patience=timedelta(minutes=1))

            assert not build.done()
        await build

    assert await index_exists(db)


async def _count(db: Database, statement: str) -> int:
    async with db.read() as tx:
        return int(await tx.scalar(text(statement)) or 0)


def test_migrations_create_indexes_of_new_tables_only() -> None:
    """An index of a table with rows is built later; see `fleek.store.tables`."""
    late = [path for path in (HERE / "versions").glob("[0-9]*.py") if path.name > "0004"]

    for path in late:
        source = path.read_text()
        made = set(re.findall(r'create_table\(\s*"(\w+)"', source))
        indexed = set(re.findall(r'create_index\(\s*"\w+",\s*"(\w+)"', source))
        assert source.count("create_index") == len(indexed), path.name
        assert indexed <= made, path.name
