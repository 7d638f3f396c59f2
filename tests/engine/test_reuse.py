"""A job takes the files of an equal one: nothing is paid for, and no file is lost."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import pytest

from backing_services import both_databases
from fakes import FOR_GOOD, Clock, FakeProvider, a_request
from fleek.domain.batch import Batch
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import BatchId, Job, JobId, ModelName, Status
from fleek.engine.batches import accept_batch
from fleek.engine.orphan_files import OrphanSearch
from fleek.engine.purge import Retention, purge
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.engine.webhooks import create_endpoint
from fleek.store import attempts, batches, delivery_log, events, jobs
from fleek.store.counters import count_jobs
from fleek.store.delivery_log import DeliveryFilter
from stored_outputs import completed, days_pass, left_of, with_settings

HOUR: Final = timedelta(hours=1)


async def again(rt: Runtime, **fields: Any) -> Job:
    """Submit the request of a completed job again, and let its files be reused."""
    return await submit(rt, a_request(**{"reuse": HOUR, **fields}))


async def served(rt: Runtime, job: Job) -> list[bytes]:
    """Return the files of a job, as callers get them."""
    view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)
    return [b"".join([part async for part in rt.storage.read(file.key)]) for file in view.media]


async def search(rt: Runtime) -> None:
    """Remove orphaned files."""
    found = OrphanSearch(rt)
    while await found.batch():
        pass


async def turns(rt: Runtime, number: int = 3) -> None:
    """Take some turns of retention."""
    retention = Retention(rt)
    for _ in range(number):
        await retention.turn()


@both_databases
async def test_an_equal_job_completes_at_once(rt: Runtime, provider: FakeProvider) -> None:
    """With the same files, without an attempt; its history and the counters say so."""
    source = await completed(rt, provider)

    job = await again(rt)

    assert (job.status, job.kind, job.progress) == (Status.COMPLETED, source.kind, 1.0)
    assert (job.reused_from, job.completed_at) == (source.id, job.created_at)
    assert job == await jobs.get_any_tenant(rt.db, job.id)
    assert await served(rt, job) == await served(rt, source)
    assert await attempts.of_job(rt.db, job.id) == []
    history = await events.of_job(rt.db, job.id)
    assert [(line.seq, line.type) for line in history] == [(1, "submitted"), (2, "completed")]
    assert history[1].data["reused_from"] == str(source.id)
    counts = await count_jobs(rt.db, now=rt.now())
    assert (counts.by_status[Status.COMPLETED], counts.by_status[Status.PENDING]) == (2, 0)


OTHERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "not asked for": {"reuse": None},
    "too old": {"reuse": timedelta(seconds=1)},
    "another prompt": {"prompt": "A dog"},
    "another parameter": {"parameters": {"seed": 7}},
    "another model": {"model": ModelName("fake/other")},
    "another tenant": {"tenant_id": "other"},
}


async def test_another_job_is_started(
    rt: Runtime, provider: FakeProvider, clock: Clock, subtests: pytest.Subtests
) -> None:
    """Whatever may change its result, and whoever asks."""
    await completed(rt, provider)
    clock.time += timedelta(minutes=1)
    for name, fields in OTHERS.items():
        with subtests.test(name):
            job = await again(rt, **fields)

            assert (job.status, job.reused_from) == (Status.PENDING, None)
    later = await again(rt, run_at=rt.now() + HOUR)
    assert later.status is Status.PENDING


async def test_a_failed_job_is_not_reused(rt: Runtime, provider: FakeProvider) -> None:
    """It has no files; nor has one that was purged."""
    source = await completed(rt, provider)
    await purge(rt, source.id, tenant_id="default")

    assert (await again(rt)).status is Status.PENDING

    provider.outcome = FOR_GOOD
    assert (await again(rt)).status is Status.PENDING


async def test_the_age_is_that_of_the_files(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Not that of a job that has reused them: they would never be made anew."""
    source = await completed(rt, provider)
    clock.time += HOUR * 0.9
    first = await again(rt)

    clock.time += HOUR * 0.2
    second = await again(rt)
    third = await again(rt, reuse=2 * HOUR)

    assert (first.reused_from, second.reused_from) == (source.id, None)
    assert third.reused_from == source.id


@both_databases
@pytest.mark.parametrize("way", ["request", "retention"])
async def test_files_stay_while_any_job_has_them(
    rt: Runtime, provider: FakeProvider, clock: Clock, way: str
) -> None:
    """Whichever of them is purged first; then they are removed."""
    source = await completed(rt, provider)
    content = await served(rt, source)
    clock.time += timedelta(minutes=30)
    first, second = await again(rt), await again(rt)
    if way == "request":
        for job in (source, first):
            await purge(rt, job.id, tenant_id="default")
        await turns(rt)
    else:
        await purge(rt, first.id, tenant_id="default")
        short = with_settings(rt, media_retention_days=1 / 24)
        clock.time += timedelta(minutes=45)  # the source is old enough, the others are not
        await turns(short)

    assert await served(rt, second) == content
    days_pass(clock, days=3)
    await search(rt)
    assert await served(rt, second) == content

    await purge(rt, second.id, tenant_id="default")
    await purge(rt, source.id, tenant_id="default")
    await turns(rt)

    assert {part for part in await left_of(rt, source.id) if part == "media"} == set()


async def test_a_reused_job_outlives_its_source_s_row(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The row that made the files is removed after those that have them."""
    source = await completed(rt, provider)
    clock.time += HOUR * 0.5
    job = await again(rt)
    content = await served(rt, job)
    short = with_settings(rt, job_retention_days=1 / 24)
    clock.time += HOUR * 0.75
    await turns(short)

    assert await served(rt, job) == content

    clock.time += HOUR
    await turns(short, number=6)

    assert await jobs.views(rt.db, [JobId(source.id), JobId(job.id)]) == {}


async def test_webhooks_are_sent_about_both_events(rt: Runtime, provider: FakeProvider) -> None:
    """As of any job: it was created, and it has completed."""
    await completed(rt, provider)
    kinds = ["job.created", "job.completed"]
    await create_endpoint(
        rt, tenant_id="default", url="https://example.com", events=kinds, description=""
    )

    job = await again(rt)

    wanted = DeliveryFilter(job_id=job.id)
    owed = await delivery_log.page(rt.db, wanted, tenant_id="default", limit=10)
    found = [
        await delivery_log.get(rt.db, each.id, tenant_id="default") for each in owed.deliveries
    ]
    bodies = {each.type: json.loads(each.body)["data"] for each in found}
    assert sorted(bodies) == sorted(kinds)
    assert bodies["job.created"]["status"] == "pending"
    assert len(bodies["job.completed"]["outputs"]) == 1
    assert bodies["job.completed"]["reused_from"] == str(job.reused_from)


async def test_members_of_a_batch_are_reused(rt: Runtime, provider: FakeProvider) -> None:
    """Each that asks for it."""
    source = await completed(rt, provider)
    wanted = [a_request(reuse=HOUR), a_request(), a_request(reuse=HOUR)]
    batch = Batch(id=BatchId(source.id), tenant_id="default", total=3, created_at=rt.now())

    def members() -> Any:
        yield from wanted

    await accept_batch(rt, batch, members, RequestIdentity("default", b""))

    view = await batches.get(rt.db, batch.id, tenant_id="default")
    assert (view.counts[Status.COMPLETED], view.counts[Status.PENDING]) == (2, 1)
