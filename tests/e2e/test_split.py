"""API and worker as separate processes on one SQLite file."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from fleek.bootstrap import open_runtime
from fleek.domain.errors import ConfigurationError
from fleek.settings import Settings
from fleek.store.database import reach
from fleek.worker import wait_for_schema
from service_process import SMALL, Service, assert_each_once, until


def test_api_and_worker_share_one_file(service: Service) -> None:
    """`serve --no-worker` accepts jobs; `worker` processes them."""
    service.serve("--no-worker")
    accepted = service.submit_many(5, parameters=SMALL)
    before = service.by_status()

    service.worker()
    ended = service.settle(seconds=300)

    assert before["pending"] == 5
    assert ended["completed"] == 5
    assert_each_once(service, accepted)


def test_a_worker_waits_for_the_schema(service: Service) -> None:
    """Started together, the worker may be first: it logs the wait once, then works."""
    worker = service.start("worker")
    worker.await_log("waiting for the database schema")

    service.serve("--no-worker")

    worker.await_log("worker_registered")
    assert worker.log.read_text().count("waiting for the database schema") == 1
    assert worker.stop() == 0


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_worker_does_not_wait_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a migration it ends, with one line that names the command."""
    settings = Settings(database_url=f"sqlite:///{tmp_path}/empty.db")

    async with open_runtime(settings) as rt:
        await reach(rt.db)
        with pytest.raises(
            ConfigurationError, match="run fleek migrate or fleek serve"
        ) as refused:
            await wait_for_schema(rt, patience=timedelta(seconds=0.2))

    assert "\n" not in str(refused.value)
    assert capsys.readouterr().err == "waiting for the database schema: run fleek migrate\n"


def test_readers_do_not_wait_for_a_writer(service: Service) -> None:
    """A status is readable while another process holds the only write lock."""
    service.serve("--no-worker")
    job_id = service.submit(parameters=SMALL)

    with closing(sqlite3.connect(service.folder / "fleek.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE jobs SET priority = 9")
        reported = [service.http.get(f"/api/v1/jobs/{job_id}").status_code for _ in range(5)]
        priority = service.rows("SELECT priority FROM jobs")
        writer.execute("ROLLBACK")

    assert reported == [200] * 5  # a writer would be refused after ten seconds
    assert priority == [(5,)]


def test_either_process_may_be_killed(service: Service) -> None:
    """The next process continues its work, and nothing is paid for twice."""
    api, worker = service.serve("--no-worker"), service.worker()
    accepted = service.submit_many(20, parameters=SMALL)
    until(lambda: service.by_status()["pending"] < len(accepted), why=service.tails)

    worker.kill()
    api.kill()
    service.serve("--no-worker")
    service.worker()
    service.settle(seconds=300)

    assert_each_once(service, accepted)
