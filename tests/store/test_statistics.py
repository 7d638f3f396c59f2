"""Statistics of ended jobs: correct, and of one tenant only."""

from datetime import timedelta

from fleek.domain.job import JobId, ModelName, Status
from fleek.store import jobs
from fleek.store.database import Database
from fleek.store.statistics import Durations, statistics
from fleek.store.updates import apply
from samples import NOON, SECOND, a_job, binds, claims, completes, predicted

HOUR = timedelta(hours=1)


async def ended(db: Database, *, seconds: float | None, ago: timedelta, **fields: object) -> JobId:
    """Store a job with a duration, ended some time before noon."""
    at = NOON - ago
    job = a_job(
        completed_at=at,
        started_at=None if seconds is None else at - seconds * SECOND,
        **{"status": Status.COMPLETED, **fields},
    )
    await jobs.insert_job(db, job)
    return job.id


async def test_the_jobs_of_the_window_are_counted(db: Database) -> None:
    """By status, model and provider, with the durations of started jobs."""
    for number in range(1, 21):
        await ended(db, seconds=number, ago=number * SECOND)
    await ended(db, seconds=None, ago=SECOND, status=Status.CANCELLED, model=ModelName("the/fox"))
    await ended(db, seconds=99, ago=2 * HOUR)
    await ended(db, seconds=99, ago=SECOND, tenant_id="other")
    await jobs.insert_job(db, a_job(created_at=NOON - HOUR))
    await jobs.insert_job(db, a_job())

    found = await statistics(db, tenant_id="default", since=NOON - HOUR)

    assert found.ended == Durations(21, 10, 19)
    assert found.by_status == {
        "completed": Durations(20, 10, 19),
        "cancelled": Durations(1, None, None),
    }
    assert found.by_model == {
        "fake/model": Durations(20, 10, 19),
        "the/fox": Durations(1, None, None),
    }
    assert found.by_provider == {"fake": Durations(21, 10, 19)}
    assert (found.pending, found.processing) == (2, 0)
    assert found.oldest_pending_at == NOON - HOUR
    assert found.since == NOON - HOUR


async def test_the_latest_jobs_count_if_there_are_too_many(db: Database) -> None:
    """The response contains the beginning of the counted period."""
    for number in range(1, 6):
        await ended(db, seconds=number, ago=number * SECOND)

    found = await statistics(db, tenant_id="default", since=NOON - HOUR, most=3)

    assert (found.ended, found.since) == (Durations(3, 2, 3), NOON - 3 * SECOND)


async def test_the_bytes_of_files_are_summed(db: Database) -> None:
    """Of jobs that ended in the window."""
    job = a_job(run_at=NOON)
    await jobs.insert_job(db, job)
    claimed = await apply(db, job.id, claims())
    attempt_id = claimed.update.intent.id
    await apply(db, job.id, binds("p"), attempt_id=attempt_id)
    await apply(db, job.id, predicted, attempt_id=attempt_id)
    await apply(db, job.id, completes(2))

    found = await statistics(db, tenant_id="default", since=NOON - HOUR)

    assert (found.size_bytes, found.ended.jobs) == (2 * 2**40, 1)


async def test_statistics_of_an_empty_database_are_empty(db: Database) -> None:
    """A new installation has statistics, too."""
    found = await statistics(db, tenant_id="default", since=NOON)

    assert found.ended == Durations(0, None, None)
    assert (found.size_bytes, found.oldest_pending_at, found.by_model) == (0, None, {})
