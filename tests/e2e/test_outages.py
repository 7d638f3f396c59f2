"""A machine without storage or descriptors: paid results wait, and are stored afterwards."""

import resource
import sqlite3
from contextlib import closing
from pathlib import Path

from service_process import SMALL, Process, Service, until


def collecting(service: Service) -> int:
    """Count the waiting results in the database, since the API may not respond."""
    with closing(sqlite3.connect(service.folder / "fleek.db")) as db:
        query = "SELECT count(*) FROM jobs WHERE stage = 'collecting' AND collects > 0"
        return int(db.execute(query).fetchone()[0])


def limit_descriptors(process: Process, number: int) -> int:
    """Limit the descriptors of a process, and return the previous limit."""
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (number, hard))
    return soft


def test_results_wait_for_a_removed_storage(service: Service) -> None:
    """A file in place of the folder refuses every access. No restart is needed."""
    service.serve()
    storage: Path = service.folder / "storage"
    storage.rename(service.folder / "elsewhere")
    storage.write_bytes(b"in the way")
    jobs = service.submit_many(3, parameters=SMALL)
    until(lambda: collecting(service) == len(jobs), why=lambda: str(service.by_status()))
    waiting = service.job(jobs[0])
    health = service.http.get("/health/detailed").json()

    storage.unlink()
    ended = service.settle(seconds=120)

    assert waiting["status"] == "processing"
    assert waiting["retrying"]["code"] == "storage_unavailable"
    assert health["status"] == "degraded"
    assert (ended["completed"], ended["failed"]) == (3, 0)


def test_results_wait_for_file_descriptors(service: Service) -> None:
    """The API continues over open connections."""
    process = service.serve()
    service.submit(parameters=SMALL)
    service.settle(seconds=120)  # all permanent connections are open now
    before = limit_descriptors(process, len(list(Path(f"/proc/{process.pid}/fd").iterdir())))

    try:
        service.submit(parameters=SMALL)
        process.await_log("resources_exhausted")
    finally:
        limit_descriptors(process, before)
    ended = service.settle(seconds=120)

    assert (ended["completed"], ended["failed"]) == (2, 0)
