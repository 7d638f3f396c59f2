"""A tenant has no more unfinished or running jobs than its limit."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from fleek.domain.errors import TenantBusy, TooManyJobs
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import Job, JobId, Stage, Status
from fleek.domain.transitions import cancel
from fleek.store import jobs
from fleek.store.database import Database, open_database
from fleek.store.jobs import Accepted
from fleek.store.limits import Running, count_running
from fleek.store.tables import AttemptRow, IdempotencyKeyRow, JobRow, UnkeyedRequestRow
from fleek.store.updates import StartLimit, Update, apply
from samples import NOON, a_job, binds, claims

MOST = 5
ROUNDS = 5  # in a single round the processes might alternate by chance


@pytest.fixture
async def processes(database_url: str) -> AsyncGenerator[list[Database]]:
    """Open one database several times, like several processes."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_database(database_url)) for _ in range(3)]


async def number_of(db: Database, table: Any = JobRow) -> int:
    """Return how many rows a table has."""
    async with db.read() as tx:
        return await tx.scalar(select(func.count()).select_from(table)) or 0


async def fill(db: Database, number: int, **fields: Any) -> list[JobId]:
    """Insert jobs without regard to the limit."""
    made = [a_job(**fields) for _ in range(number)]
    await asyncio.gather(*(jobs.insert_job(db, job) for job in made))
    return [job.id for job in made]


async def end(db: Database, job_id: JobId) -> None:
    """Cancel a job."""
    await apply(db, job_id, lambda job, _: Update(change=cancel(job, now=NOON)))


def identity(key: str | None = "k1", content: bytes = b"a cat") -> RequestIdentity:
    """Return the identity of a request."""
    return RequestIdentity("default", content, key)


async def test_of_200_concurrent_requests_one_gets_the_last_place(
    processes: list[Database],
) -> None:
    """In one commit and in several processes: the check is in the commit of the job."""
    for db in processes:  # connects each of them
        await fill(db, 1)
    await fill(processes[0], MOST - 1 - len(processes))

    for number in range(1, ROUNDS + 1):
        results = await asyncio.gather(
            *(jobs.insert_job(processes[n % 3], a_job(), max_live=MOST) for n in range(200)),
            return_exceptions=True,
        )

        accepted = [result.job.id for result in results if isinstance(result, Accepted)]
        assert len(accepted) == 1
        assert sum(isinstance(result, TooManyJobs) for result in results) == 199
        assert await number_of(processes[0]) == MOST - 1 + number
        await end(processes[0], accepted[0])


async def test_an_ended_job_frees_its_place(db: Database) -> None:
    """Scheduled and running jobs count; ended ones do not."""
    first, *_ = await fill(db, MOST - 2)
    await fill(db, 1, status=Status.PROCESSING)
    await fill(db, 3, status=Status.FAILED, completed_at=NOON)
    await jobs.insert_job(db, a_job(), max_live=MOST)
    with pytest.raises(TooManyJobs):
        await jobs.insert_job(db, a_job(), max_live=MOST)

    await end(db, first)

    assert (await jobs.insert_job(db, a_job(), max_live=MOST)).created


async def test_a_tenant_is_not_limited_by_another(db: Database) -> None:
    """Also within one commit."""
    await fill(db, MOST, tenant_id="full")
    tenants = ["full", "other"] * MOST

    results = await asyncio.gather(
        *(jobs.insert_job(db, a_job(tenant_id=each), max_live=MOST) for each in tenants),
        return_exceptions=True,
    )

    accepted = [result.job.tenant_id for result in results if isinstance(result, Accepted)]
    assert accepted == ["other"] * MOST


async def test_a_refused_request_leaves_no_key(db: Database) -> None:
    """Its duplicate in the same commit is refused, too."""
    filled = await fill(db, MOST)

    results = await asyncio.gather(
        jobs.insert_job(db, a_job(), identity=identity(), max_live=MOST),
        jobs.insert_job(db, a_job(), identity=identity(), max_live=MOST),
        jobs.insert_job(db, a_job(), identity=identity(None), max_live=MOST),
        return_exceptions=True,
    )
    left = [await number_of(db, table) for table in (IdempotencyKeyRow, UnkeyedRequestRow)]
    await end(db, filled[0])
    accepted = await jobs.insert_job(db, a_job(), identity=identity(), max_live=MOST)

    assert [type(result) for result in results] == [TooManyJobs] * 3
    assert left == [0, 0]
    assert not accepted.replayed


async def test_a_repeated_request_needs_no_place(db: Database) -> None:
    """Its job exists already."""
    first = await jobs.insert_job(db, a_job(), identity=identity(), max_live=1)

    results = await asyncio.gather(
        jobs.insert_job(db, a_job(), identity=identity(), max_live=1),
        jobs.insert_job(db, a_job(), identity=identity("k2"), max_live=1),
        return_exceptions=True,
    )

    assert results[0] == Accepted(first.job, replayed=True)
    assert isinstance(results[1], TooManyJobs)


async def test_a_retry_needs_a_place(processes: list[Database]) -> None:
    """One that finds another job does not; one that finds a refused job is refused."""
    db = processes[0]
    olds = await fill(db, 4, status=Status.FAILED, completed_at=NOON)
    await fill(db, MOST - 1)

    results = await asyncio.gather(
        *(
            jobs.insert_retry(
                processes[number % 3],
                replace(a_job(), retry_of=old),
                again=False,
                identity=identity(f"k{number}", bytes(number)),
                max_live=MOST,
            )
            for number, old in enumerate(olds * 3)
        ),
        return_exceptions=True,
    )

    accepted = [result for result in results if isinstance(result, Accepted)]
    assert {type(result) for result in results} == {Accepted, TooManyJobs}
    assert len({result.job.id for result in accepted}) == 1
    assert len(accepted) == 3
    assert await number_of(db) == 4 + MOST
    assert await number_of(db, IdempotencyKeyRow) == 3


async def start_one(db: Database, job_id: JobId, most: int | None = MOST) -> Job | None:
    """Claim a job; None: its tenant is at its limit of running jobs."""
    try:
        applied = await apply(db, job_id, claims(), start=StartLimit(most))
    except TenantBusy:
        return None
    return applied.job


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_of_many_concurrent_starts_one_gets_the_last_place(
    processes: list[Database],
) -> None:
    """In one commit and in several processes: the check is in the commit of the claim."""
    db = processes[0]
    for job_id in await fill(db, MOST - 1):
        await start_one(db, job_id)

    for number in range(1, ROUNDS + 1):
        waiting = await fill(db, 60)
        started = await asyncio.gather(
            *(start_one(processes[n % 3], job_id) for n, job_id in enumerate(waiting))
        )

        (running,) = [job for job in started if job is not None]
        running_now = await count_running(db, ["default"], default=MOST)
        assert running_now == {"default": Running(MOST, MOST)}
        left = [(await jobs.get_any_tenant(db, job_id)).status for job_id in waiting]
        assert left.count(Status.PENDING) == 59
        assert await number_of(db, AttemptRow) == MOST - 1 + number
        await end(db, running.id)


async def test_a_start_is_limited_by_its_own_tenant_only(db: Database) -> None:
    """Also within one commit; and a tenant without a limit is not limited."""
    full = await fill(db, 2 * MOST, tenant_id="full")
    other = await fill(db, MOST, tenant_id="other")
    free = await fill(db, 2 * MOST, tenant_id="free")

    started = await asyncio.gather(
        *(start_one(db, job_id) for job_id in (*full, *other)),
        *(start_one(db, job_id, None) for job_id in free),
    )

    tenants = Counter(job.tenant_id for job in started if job is not None)
    assert tenants == {"full": MOST, "other": MOST, "free": 2 * MOST}
    found = await count_running(db, ["full", "free", "none"], default=9)
    assert {name: each.jobs for name, each in found.items()} == {
        "full": MOST,
        "free": 2 * MOST,
        "none": 0,
    }
    assert await count_running(db, ["full"], default=None) == {}


async def test_running_jobs_continue_at_the_limit(db: Database) -> None:
    """Only a start needs a place, and a failed attempt frees its place."""
    first, second = await fill(db, 2)
    running = await start_one(db, first, 1)
    assert running is not None

    bound = await apply(db, first, binds("p1"), attempt_id=running.attempt_id)
    assert bound.job.stage is Stage.WAITING
    assert await start_one(db, second, 1) is None
    await end(db, first)
    assert await start_one(db, second, 1) is not None
