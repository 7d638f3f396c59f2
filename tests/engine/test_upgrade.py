"""An upgrade during operation: jobs of the previous release end as they would have there.

The database has the schema of release 0.1.0, with jobs in every state, an attempt in each, files
and a crashed worker. It is migrated to the latest schema, and the engine continues.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import Connection, Table, insert, inspect
from uuid_utils.compat import uuid4

from backing_services import Services, apart, both_databases
from fakes import PNG, WELL, Clock, FakeProvider
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.job import AttemptId, Job, JobError, PredictionId, Stage, Status, WorkerId
from fleek.domain.media import Media, media_key
from fleek.engine.collect import collect
from fleek.engine.purge import Retention
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.watch import Watch
from fleek.store import attempts, jobs, rows
from fleek.store.database import open_database
from fleek.store.migrate import _upgrade, upgrade
from fleek.store.tables import AttemptRow, Base, CounterRow, EventRow, JobRow, MediaRow, WorkerRow
from recovering import Recovering
from samples import NOON, a_job, an_attempt
from stored_outputs import save

pytestmark = both_databases

RELEASED: Final = {"0.1.0": "0003", "0.2.0": "0035"}  # the schema of each release
GONE: Final = WorkerId(UUID("b0000000-0000-0000-0000-000000000001"))
WORKER: Final = {
    "id": GONE, "host": "elsewhere", "pid": 1, "version": "0.1.0", "slots": 4, "freed": False,
    "started_at": NOON - timedelta(hours=1), "heartbeat_at": NOON - timedelta(minutes=1),
}  # fmt: skip
BROKEN: Final = JobError("prediction_failed", "the model had a bad day")
LOST: Final = JobError("outcome_unknown", "the answer was lost")


@dataclass(frozen=True)
class Leftover:
    """What the previous release left of one job, and its expected end."""

    job: Job
    attempts: Sequence[Attempt] = ()
    media: Sequence[Media] = ()
    exists: bool = False  # whether the provider has a prediction of the latest attempt
    status: Status = Status.COMPLETED  # expected at the end
    starts: int = 0  # predictions that are started from now on

    @property
    def prediction_id(self) -> PredictionId:
        """The id of the latest attempt's prediction."""
        return PredictionId(f"p-{self.attempts[-1].id}")


def _left(fields: Mapping[str, Any], *of_attempts: Mapping[str, Any], **rest: Any) -> Leftover:
    """Return a job with these fields, and an attempt for each set of fields."""
    ids = [AttemptId(uuid4()) for _ in of_attempts]
    job = a_job(attempt=len(ids), attempt_id=ids[-1] if ids else None, started_at=NOON, **fields)
    made = [
        an_attempt(job, id=attempt_id, number=number, worker_id=GONE, **values)
        for number, (attempt_id, values) in enumerate(zip(ids, of_attempts, strict=True), 1)
    ]
    if made and made[-1].prediction_id is not None:
        prediction_id = PredictionId(f"p-{ids[-1]}")
        made[-1] = replace(made[-1], prediction_id=prediction_id)
        if job.stage is not None:
            job = replace(job, prediction_id=prediction_id)
    return Leftover(job, made, **rest)


def _completed(**fields: Any) -> Leftover:
    left = _left({"status": Status.COMPLETED, "completed_at": NOON, **fields}, SUCCEEDED)
    media = Media(
        job_id=left.job.id,
        attempt_id=left.attempts[-1].id,
        index=0,
        key=media_key(left.job.id, left.attempts[-1].id, 0, sha256="a" * 64, extension="png"),
        sha256="a" * 64,
        size_bytes=len(PNG),
        content_type="image/png",
    )
    return replace(left, media=[media])


BOUND: Final = {"prediction_id": "set later", "first_look_at": NOON}
RESULT: Final = {"outputs": [output.to_json() for output in WELL.outputs]}
SUCCEEDED: Final = {**BOUND, "verdict": Verdict.SUCCEEDED, "result": RESULT}
FAILED: Final = {**BOUND, "verdict": Verdict.FAILED, "error": BROKEN}
RUNS: Final = {"status": Status.PROCESSING}
ENDED: Final = {"completed_at": NOON}

JOBS: Final[Mapping[str, Leftover]] = {
    "pending": _left({}, starts=1),
    "pending again": _left({"retries": 1, "error": BROKEN}, FAILED, starts=1),
    "starting, not created": _left(
        {**RUNS, "stage": Stage.STARTING, "worker_id": GONE}, {}, starts=1
    ),
    "starting, created": _left(
        {**RUNS, "stage": Stage.STARTING, "worker_id": GONE}, {}, exists=True
    ),
    "unknown, not created": _left({**RUNS, "stage": Stage.UNKNOWN}, {"error": LOST}, starts=1),
    "unknown, created": _left({**RUNS, "stage": Stage.UNKNOWN}, {"error": LOST}, exists=True),
    "waiting": _left({**RUNS, "stage": Stage.WAITING, "progress": 0.5}, BOUND, exists=True),
    "waiting, second attempt": _left(
        {**RUNS, "stage": Stage.WAITING, "retries": 1}, FAILED, BOUND, exists=True
    ),
    "collecting": _left(
        {**RUNS, "stage": Stage.COLLECTING, "worker_id": GONE}, SUCCEEDED, exists=True
    ),
    "collecting, postponed": _left(
        {**RUNS, "stage": Stage.COLLECTING, "collects": 3, "error": BROKEN}, SUCCEEDED, exists=True
    ),
    "completed": _completed(),
    "completed, being purged": _completed(purged_at=NOON, metadata_purged_at=NOON, purging=True),
    "failed": _left(
        {"status": Status.FAILED, "error": BROKEN, **ENDED}, FAILED, status=Status.FAILED
    ),
    "cancelled, cancel owed": _left(
        {"status": Status.CANCELLED, **ENDED},
        {**BOUND, "cancel_owed": True},
        exists=True,
        status=Status.CANCELLED,
    ),
    "cancelled, lost": _left(
        {"status": Status.CANCELLED, **ENDED},
        {"verdict": Verdict.LOST, "error": LOST},
        status=Status.CANCELLED,
    ),
}


@pytest.fixture(params=RELEASED)
def database_url(
    request: pytest.FixtureRequest, database: str, services: Services, tmp_path: Path
) -> Iterator[str]:
    """Yield the address of a migrated database with all these jobs of an earlier release."""
    schema = RELEASED[request.param]
    if database == "sqlite":
        url = f"sqlite:///{tmp_path}/old.db"
        apart(asyncio.run, _fill(url, schema))
        apart(upgrade, url)
        yield url
        return
    server = services.postgres()
    name = server.create()
    apart(asyncio.run, _fill(server.url(name), schema))
    apart(upgrade, server.url(name))
    yield server.url(name)
    server.drop(name)


async def _fill(url: str, schema: str) -> None:
    async with open_database(url) as db, db.write() as tx:
        await tx.run_sync(_upgrade, schema)
        await tx.run_sync(_insert)


def _insert(connection: Connection) -> None:
    _put(connection, WorkerRow, [WORKER])
    for left in JOBS.values():
        job = left.job
        line = {"job_id": job.id, "seq": 1, "type": "submitted", "data": {}, "at": NOON}
        _put(connection, JobRow, [rows.JOB.values(job)])
        _put(connection, AttemptRow, map(rows.ATTEMPT.values, left.attempts))
        _put(connection, MediaRow, map(rows.MEDIA.values, left.media))
        _put(connection, EventRow, [line])
    for status in Status:
        number = sum(left.job.status is status for left in JOBS.values())
        _put(connection, CounterRow, [{"lane": 0, "status": status.value, "jobs": number}])


def _put(connection: Connection, row: type[Base], values: Any) -> None:
    """Insert rows as that release did, without the columns that it does not have."""
    table = row.__table__
    assert isinstance(table, Table)
    known = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for found in values:
        old = {name: value for name, value in found.items() if name in known}
        connection.execute(insert(table).values(old))


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_jobs_of_the_previous_release_end_correctly(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """None is lost, nothing is paid for twice, and stored files stay."""
    provider.reconcile_by = "find"
    for left in JOBS.values():
        if left.exists:
            provider.created[left.prediction_id] = left.attempts[-1]
        for media in left.media:
            await save(rt, media.key)

    await _work(rt, clock)

    views = {
        name: await jobs.get(rt.db, left.job.id, tenant_id="default")
        for name, left in JOBS.items()
    }
    assert {name: view.job.status for name, view in views.items()} == {
        name: left.status for name, left in JOBS.items()
    }
    started = [attempt.job_id for attempt in provider.started]
    assert {name: started.count(left.job.id) for name, left in JOBS.items()} == {
        name: left.starts for name, left in JOBS.items()
    }
    assert await attempts.count_without_verdict(rt.db) == {}
    for name, view in views.items():
        if view.job.status is Status.COMPLETED and "purged" not in name:
            (media,) = view.media
            assert b"".join([chunk async for chunk in rt.storage.read(media.key)]) == PNG
    purged = JOBS["completed, being purged"]
    assert not views["completed, being purged"].job.purging
    assert not [stored async for stored in rt.storage.keys(f"media/{purged.job.id}/")]


async def _work(rt: Runtime, clock: Clock) -> None:
    """Run the loops of a coordinating worker until nothing is left to do."""
    recovering, watch, retention = Recovering(rt), Watch(rt), Retention(rt)
    for _ in range(60):
        clock.tick(seconds=30)
        await rt.lease.beat()
        await recovering.turn()
        await watch.turn()
        await retention.turn()
        found = [await jobs.get_any_tenant(rt.db, left.job.id) for left in JOBS.values()]
        for job in found:
            if job.status is Status.PENDING and job.run_at <= rt.now():
                await start(rt, job.id)
            elif job.stage is Stage.COLLECTING and job.worker_id is None:
                await collect(rt, job.id)
        if all(job.terminal for job in found) and not await attempts.count_without_verdict(rt.db):
            return
