"""Of requests with one key, one creates a job, across all transactions and processes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import func, select, update

from fleek.domain.errors import Gone, IdempotencyKeyReused, InvalidInput
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import Job, JobId, Status
from fleek.domain.media import Part
from fleek.domain.transitions import cancel, mark_erased, purge
from fleek.store import idempotency, jobs, purges
from fleek.store.database import Database, open_database
from fleek.store.jobs import Accepted
from fleek.store.tables import IdempotencyKeyRow, JobRow, UnkeyedRequestRow
from fleek.store.updates import Update, apply
from samples import NOON, SECOND, a_job

MINUTE = timedelta(minutes=1)


def identity(content: str = "a cat", key: str | None = "k1", **fields: Any) -> RequestIdentity:
    """Return the identity of a request."""
    digest = sha256(content.encode()).digest()
    return RequestIdentity(**{"tenant_id": "default", "digest": digest, "key": key, **fields})


def unkeyed(content: str = "a cat", **fields: Any) -> RequestIdentity:
    """Return the identity of a request without a key."""
    return identity(content, None, **fields)


@pytest.fixture
async def processes(database_url: str) -> AsyncGenerator[list[Database]]:
    """Open one database several times, like several processes."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_database(database_url)) for _ in range(3)]


async def number_of(db: Database, table: Any = JobRow) -> int:
    """Return how many rows a table has."""
    async with db.read() as tx:
        return await tx.scalar(select(func.count()).select_from(table)) or 0


async def ended(db: Database) -> JobId:
    """Insert a job that was cancelled."""
    job = a_job()
    await jobs.insert_job(db, job)
    await apply(db, job.id, lambda job, _: Update(change=cancel(job, now=NOON)))
    return job.id


async def test_duplicates_in_one_batch_create_one_job(db: Database) -> None:
    """They wait for the same transaction, and the first one counts."""
    made = [a_job() for _ in range(30)]

    results = await asyncio.gather(
        *(jobs.insert_job(db, job, identity=identity()) for job in made)
    )

    assert {result.job.id for result in results} == {made[0].id}
    assert [result.replayed for result in results] == [False, *[True] * 29]
    assert all(result.created for result in results)
    assert await number_of(db) == 1


async def test_duplicates_in_several_processes_create_one_job(processes: list[Database]) -> None:
    """The first transaction to commit owns the key, and the others wait for it."""
    results = await asyncio.gather(
        *(
            jobs.insert_job(processes[number % 3], a_job(), identity=identity())
            for number in range(30)
        )
    )

    assert len({result.job.id for result in results}) == 1
    assert [result.replayed for result in results].count(False) == 1
    assert await number_of(processes[0]) == 1


async def test_batches_with_equal_keys_in_another_order_do_not_deadlock(
    processes: list[Database],
) -> None:
    """Keys are claimed in one order everywhere."""
    keys = [f"k{number}" for number in range(40)]

    results = await asyncio.gather(
        *(
            jobs.insert_job(db, a_job(), identity=identity(key=key))
            for db, order in zip(processes, (keys, keys[::-1], keys[20:] + keys[:20]), strict=True)
            for key in order
        )
    )

    assert len({result.job.id for result in results}) == 40
    assert await number_of(processes[0]) == 40


async def test_keys_are_separate_per_tenant(db: Database) -> None:
    """Another tenant may use the same key, and neither notices."""
    await jobs.insert_job(db, a_job(), identity=identity())

    other = await jobs.insert_job(
        db, a_job(tenant_id="other"), identity=identity("a dog", tenant_id="other")
    )

    assert not other.replayed
    assert await number_of(db) == 2


async def test_a_key_of_another_request_is_refused(db: Database) -> None:
    """In the same batch and later; the others in the batch are accepted."""
    results = await asyncio.gather(
        jobs.insert_job(db, a_job(), identity=identity()),
        jobs.insert_job(db, a_job(), identity=identity("a dog")),
        jobs.insert_job(db, a_job(), identity=identity("a dog", "k2")),
        return_exceptions=True,
    )
    with pytest.raises(IdempotencyKeyReused):
        await jobs.find_earlier(db, identity("a dog"), now=NOON)

    assert isinstance(results[1], IdempotencyKeyReused)
    assert all(isinstance(result, Accepted) for result in (results[0], results[2]))
    assert await number_of(db) == 2


async def test_a_refused_request_leaves_no_key(db: Database) -> None:
    """The key is in the transaction of its job, so without a job there is no key."""
    with pytest.raises(InvalidInput):
        await jobs.insert_job(db, a_job(prompt="half a character: \ud800"), identity=identity())

    accepted = await jobs.insert_job(db, a_job(), identity=identity("mended"))

    assert not accepted.replayed


async def test_a_repetition_returns_the_current_job(db: Database) -> None:
    """If it was cancelled since, it is still the response, and no new job is created."""
    job = a_job()
    await jobs.insert_job(db, job, identity=identity())
    await apply(db, job.id, lambda job, _: Update(change=cancel(job, now=NOON)))

    found = await jobs.find_earlier(db, identity(), now=NOON)
    repeated = await jobs.insert_job(db, a_job(), identity=identity())

    assert found == repeated
    assert (repeated.job.id, repeated.job.status) == (job.id, Status.CANCELLED)


async def test_a_job_is_not_removed_before_its_key(db: Database) -> None:
    """Otherwise a repetition would create another job."""
    job = a_job()
    await jobs.insert_job(db, job, identity=identity())
    await apply(db, job.id, lambda job, _: Update(change=cancel(job, now=NOON)))
    await apply(db, job.id, lambda job, _: Update(change=purge(job, list(Part), now=NOON)))
    await apply(db, job.id, lambda job, _: Update(change=mark_erased(job, now=NOON)))

    kept = await purges.remove(db, [job.id])
    later = NOON + SECOND
    await idempotency.remove_expired(db, keys_before=later, unkeyed_before=later)
    removed = await purges.remove(db, [job.id])

    assert (kept, removed) == (0, 1)


async def test_a_key_of_a_removed_job_creates_no_new_one(db: Database) -> None:
    """An earlier release removes jobs without regard to keys."""
    await jobs.insert_job(db, a_job(), identity=identity())
    async with db.write() as tx:
        await tx.execute(update(IdempotencyKeyRow).values(job_id=a_job().id))

    with pytest.raises(Gone):
        await jobs.find_earlier(db, identity(), now=NOON)
    with pytest.raises(Gone):
        await jobs.insert_job(db, a_job(), identity=identity())

    assert await number_of(db) == 1


async def test_expired_requests_are_removed(db: Database) -> None:
    """Each kind has its own retention."""
    for at in (NOON, NOON + MINUTE):
        key = str(at)
        await jobs.insert_job(db, a_job(created_at=at), identity=identity(key=key))
        await jobs.insert_job(db, a_job(created_at=at), identity=unkeyed())

    removed = await idempotency.remove_expired(
        db, keys_before=NOON + SECOND, unkeyed_before=NOON + 2 * MINUTE
    )

    assert removed == 3
    assert (await number_of(db, IdempotencyKeyRow), await number_of(db, UnkeyedRequestRow)) == (
        1,
        0,
    )
    assert await jobs.find_earlier(db, identity(key=str(NOON)), now=NOON) is None
    assert await jobs.find_earlier(db, identity(key=str(NOON + MINUTE)), now=NOON) is not None


@pytest.mark.parametrize(("seconds", "is_replayed"), [(119, True), (121, False)])
async def test_an_equal_request_without_a_key_is_found_in_the_window(
    db: Database, *, seconds: int, is_replayed: bool
) -> None:
    """The window ends exactly."""
    job = a_job()
    await jobs.insert_job(db, job, identity=unkeyed())
    repeated = unkeyed(window=2 * MINUTE)
    at = NOON + seconds * SECOND

    found = await jobs.find_earlier(db, repeated, now=at)
    result = await jobs.insert_job(db, a_job(created_at=at), identity=repeated)

    assert (found is not None) == is_replayed
    assert result.replayed == is_replayed
    assert (result.job.id == job.id) == is_replayed


async def test_without_a_window_equal_requests_are_several_jobs(db: Database) -> None:
    """Two results of the same request may be wanted."""
    results = [await jobs.insert_job(db, a_job(), identity=unkeyed()) for _ in range(2)]

    assert not any(result.replayed for result in results)
    assert await number_of(db) == 2


async def test_a_request_with_a_key_is_not_found_by_its_content(db: Database) -> None:
    """A caller with a new key wants another job."""
    await jobs.insert_job(db, a_job(), identity=identity())

    result = await jobs.insert_job(db, a_job(), identity=unkeyed(window=MINUTE))

    assert not result.replayed


async def test_equal_requests_in_several_processes_create_one_job(
    processes: list[Database],
) -> None:
    """A repetition waits for the transaction of the first request."""
    contents = [f"cat {number}" for number in range(20)]
    for db in processes:  # connects each of them
        await jobs.insert_job(db, a_job())

    results = await asyncio.gather(
        *(
            jobs.insert_job(db, a_job(), identity=unkeyed(content, window=MINUTE))
            for db, order in zip(
                processes, (contents, contents[::-1], contents[9:] + contents[:9]), strict=True
            )
            for content in order
        )
    )

    assert len({result.job.id for result in results}) == 20
    assert await number_of(processes[0]) == 23


def a_retry(of: JobId) -> Job:
    """Return a job that repeats another."""
    return replace(a_job(), retry_of=of)


async def test_a_repeated_retry_is_the_same_job(processes: list[Database]) -> None:
    """Although each of them would create another job."""
    old = await ended(processes[0])

    results = await asyncio.gather(
        *(
            jobs.insert_retry(processes[n % 3], a_retry(old), again=True, identity=identity())
            for n in range(12)
        )
    )
    other = await jobs.insert_retry(
        processes[0], a_retry(old), again=True, identity=identity(key="k2")
    )

    assert len({result.job.id for result in results}) == 1
    assert [result.replayed for result in results].count(False) == 1
    assert all(result.created for result in results)
    assert other.job.id != results[0].job.id
    assert await number_of(processes[0]) == 3


async def test_a_repeated_retry_finds_the_same_job_again(db: Database) -> None:
    """Even if that job has failed since, and a new request would create another one."""
    old = await ended(db)
    first = (await jobs.insert_retry(db, a_retry(old), again=False)).job

    found = await jobs.insert_retry(db, a_retry(old), again=False, identity=identity())
    await apply(db, first.id, lambda job, _: Update(change=cancel(job, now=NOON)))
    repeated = await jobs.insert_retry(db, a_retry(old), again=False, identity=identity())

    assert (found.job.id, found.created) == (first.id, False)
    assert (repeated.job.id, repeated.created) == (first.id, False)
    assert repeated.job.status is Status.CANCELLED
    assert await number_of(db) == 2


async def test_retries_and_other_requests_share_one_namespace_of_keys(db: Database) -> None:
    """There is one per tenant."""
    old = await ended(db)
    await jobs.insert_job(db, a_job(), identity=identity())

    with pytest.raises(IdempotencyKeyReused):
        await jobs.insert_retry(db, a_retry(old), again=True, identity=identity("retry"))

    assert await number_of(db) == 2
