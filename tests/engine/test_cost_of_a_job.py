"""What one job asks of the database, of threads and of folders: each costs time, or a wait for the disk."""

import asyncio
import math
import os
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import pytest
from sqlalchemy import event

from fakes import Clock, FakeProvider, Recording
from fleek.domain.job import Job, JobRequest, Stage, Status
from fleek.engine.admit import Admission
from fleek.engine.capacity import StorageCapacity
from fleek.engine.collect import collect
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.watch import Watch
from fleek.store import attempts, jobs
from fleek.store.database import Database
from fleek.store.sqlite import Connection

# Of a job alone; the loops of the coordinator are left out, whose statements many jobs share.
STATEMENTS: Final = {"submit": 5, "start": 20, "collect": 6}
CALLERS: Final = 40  # who submit at the same time
TRANSACTIONS: Final = {"submit": 1, "start": 3, "collect": 1}


@contextmanager
def counting(db: Database, step: str, found: Counter[tuple[str, str]]) -> Generator[None]:
    """Count the statements and the transactions of a step."""

    def statement(*_arguments: Any) -> None:
        found[step, "statements"] += 1

    def commit(*_arguments: Any) -> None:
        found[step, "transactions"] += 1

    listening = [
        (db._writer, "before_cursor_execute", statement),
        (db._reader, "before_cursor_execute", statement),
        (db._writer, "commit", commit),
    ]
    for listener in listening:
        event.listen(*listener)
    try:
        yield
    finally:
        for listener in listening:
            event.remove(*listener)


async def _run(opened: Runtime, counts: Counter[tuple[str, str]]) -> Job:
    """Run one job, and count what each of its steps takes; its process has a free slot to collect it."""
    slots: Any = Recording(slots=1)
    rt = replace(opened, dispatcher=slots)
    with counting(rt.db, "submit", counts):
        job = await submit(rt, JobRequest(prompt="A cat"))
    with counting(rt.db, "start", counts):
        await start(rt, job.id)
    with counting(rt.db, "collect", counts):
        await collect(rt, job.id)
    return await jobs.get_any_tenant(rt.db, job.id)


async def test_a_job_takes_no_more_statements_and_transactions(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Under load, steps of several jobs share them; alone, a job pays for all of its own."""
    provider.at_once = True
    await _run(rt, Counter())  # fills what the process remembers of tenants and models

    counts: Counter[tuple[str, str]] = Counter()
    job = await _run(rt, counts)

    assert job.status is Status.COMPLETED
    assert {step: counts[step, "statements"] for step in STATEMENTS} == STATEMENTS
    assert {step: counts[step, "transactions"] for step in TRANSACTIONS} == TRANSACTIONS


async def test_the_end_of_a_prediction_is_written_without_a_read(
    rt: Runtime, clock: Clock
) -> None:
    """The transaction locks and reads the rows itself."""
    watch = Watch(rt)
    await watch.turn()
    job = await submit(rt, JobRequest(prompt="A cat"))
    await start(rt, job.id)
    clock.tick(seconds=1)

    counts: Counter[tuple[str, str]] = Counter()
    with counting(rt.db, "watch", counts):
        await watch.turn()

    discover = 1  # one for all jobs of a turn
    written = 7  # BEGIN, the locks of job and attempt, their updates, the charge, the event
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING
    assert counts == {("watch", "statements"): discover + written, ("watch", "transactions"): 1}


async def test_a_turn_of_admission_reads_on_one_connection(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load there are as many turns as jobs; only the search for due jobs visits a thread, once per provider."""
    taken: Counter[str] = Counter()
    execute = Connection._execute

    async def visit(*arguments: Any, **options: Any) -> Any:
        taken["visits"] += 1
        return await execute(*arguments, **options)

    def checkout(*_arguments: Any) -> None:
        taken["connections"] += 1

    dispatcher: Any = Recording(slots=1)
    await rt.lease.beat()
    admission = Admission(replace(rt, dispatcher=dispatcher))
    await submit(rt, JobRequest(prompt="A cat"))
    await admission.turn()  # opens the connection
    await submit(rt, JobRequest(prompt="A cat"))
    monkeypatch.setattr(Connection, "_execute", visit)
    event.listen(rt.db._reader, "checkout", checkout)

    await admission.turn()

    event.remove(rt.db._reader, "checkout", checkout)
    assert taken == {"connections": 1, "visits": len(rt.providers)}


async def test_a_job_visits_few_threads_and_removes_no_file_that_is_gone(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A visit of a thread costs a tenth of a millisecond, whatever is done there.

    Looks for free space, each few seconds, are not those of a job.
    """
    provider.at_once = True
    rt = replace(rt, capacity=StorageCapacity(rt.storage, look_seconds=math.inf))
    await _run(rt, Counter())
    asked: Counter[str] = Counter()

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            asked[name] += 1
            return original(*arguments, **options)

        return run

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted("visits", ThreadPoolExecutor.submit))
    monkeypatch.setattr(os, "unlink", counted("unlinks", os.unlink))
    monkeypatch.setattr(Connection, "_execute", counted("of SQLite", Connection._execute))

    job = await _run(rt, Counter())

    assert job.status is Status.COMPLETED
    assert asked == {"visits": 3, "of SQLite": 5}


async def test_submissions_of_many_callers_visit_the_thread_to_commit_alone(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread each row hands the interpreter over and back, and beside a busy worker waits for it."""
    request = JobRequest(prompt="A cat")
    await submit(rt, request)  # fills what the process remembers of tenants and models
    visits = _counting_visits(monkeypatch)
    found: Counter[tuple[str, str]] = Counter()
    with counting(rt.db, "submit", found):
        accepted = await asyncio.gather(*(submit(rt, request) for _ in range(CALLERS)))

    assert len({job.id for job in accepted}) == CALLERS
    assert found["submit", "transactions"] == 1
    assert len(visits) == 1


async def test_followers_of_a_job_and_who_collects_it_visit_no_thread(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a visit takes milliseconds, and reads for followers rest six times as long."""
    job = await submit(rt, JobRequest(prompt="A cat"))
    visits = _counting_visits(monkeypatch)

    found = await jobs.versions(rt.db, [job.id])
    made = await attempts.of_job(rt.db, job.id)

    assert found[job.id].version == job.version
    assert made == []
    assert visits == []


def _counting_visits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what the thread of a connection to SQLite is asked to do from now on."""
    visits: list[Any] = []
    original = Connection._execute

    async def counted(connection: Connection, work: Any, *arguments: Any) -> Any:
        visits.append(work)
        return await original(connection, work, *arguments)

    monkeypatch.setattr(Connection, "_execute", counted)
    return visits
