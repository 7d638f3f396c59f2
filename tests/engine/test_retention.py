"""Retention: each kind is removed at its time, in small steps, and nothing else is."""

from collections.abc import Generator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

import fleek.engine.purge as purging
from backing_services import both_databases
from fakes import FOR_GOOD, Clock, FakeProvider, a_request
from fleek import failpoints
from fleek.domain.batch import Batch
from fleek.domain.errors import NotFound, StorageError
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import BatchId, JobId, Status
from fleek.domain.media import Key
from fleek.domain.request_rate import request_rate
from fleek.engine.cancel import cancel
from fleek.engine.purge import ALL_PARTS, AT_ONCE, REST, TROUBLED, Retention, mark, purge_older
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.store import attempts, batches, events, jobs, listing, purges, request_rates
from fleek.store.counters import count_jobs
from stored_outputs import completed, every_key, left_of, submit_and_start, with_settings


@pytest.fixture(autouse=True)
def _disarmed() -> Generator[None]:
    """Leave no failpoint armed for the next test."""
    yield
    failpoints.arm("")


class Irremovable:
    """A storage that cannot remove the files of some jobs."""

    def __init__(self, storage: Any, *job_ids: JobId) -> None:
        self._storage = storage
        self.job_ids = {str(one) for one in job_ids}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def delete(self, key: Key) -> None:
        """Remove a file, or fail."""
        if key.split("/")[1] in self.job_ids:
            raise StorageError("this file cannot be removed")
        await self._storage.delete(key)


async def turns(rt: Runtime, number: int = 3) -> None:
    """Take some turns."""
    expiry = Retention(rt)
    for _ in range(number):
        await expiry.turn()


@both_databases
@pytest.mark.parametrize(
    ("settings_", "left"),
    [
        ({}, {"media", "metadata"}),
        ({"media_retention_days": 1}, {"metadata"}),
        ({"metadata_retention_days": 1}, {"media"}),
        ({"media_retention_days": 1, "metadata_retention_days": 0.5}, set()),
        ({"media_retention_days": 400, "metadata_retention_days": 400}, {"media", "metadata"}),
    ],
    ids=["for ever", "media", "metadata", "both", "not yet"],
)
async def test_each_kind_is_removed_at_its_time(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    settings_: dict[str, float],
    left: set[str],
) -> None:
    """Off by default, and independent of each other."""
    job = await completed(rt, provider)
    clock.tick(days=1, seconds=1)

    await turns(with_settings(rt, **settings_))

    after = await jobs.get_any_tenant(rt.db, job.id)
    assert await left_of(rt, job.id) == left
    assert (after.purged_at is None) == ("media" in left)
    assert (after.metadata_purged_at is None) == ("metadata" in left)
    assert (after.status, after.purging) == (Status.COMPLETED, False)


async def test_one_kind_may_follow_the_other(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Each row records the time of its own removal."""
    job = await completed(rt, provider)
    rt = with_settings(rt, media_retention_days=1, metadata_retention_days=2)
    clock.tick(days=1, seconds=1)
    await turns(rt)
    media_end = clock()
    clock.tick(days=1)

    await turns(rt)

    after = await jobs.get_any_tenant(rt.db, job.id)
    assert (after.purged_at, after.metadata_purged_at) == (media_end, clock())
    assert await left_of(rt, job.id) == set()


@both_databases
async def test_an_old_job_is_removed_with_all_its_rows(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Its files go first, the counters change, and younger jobs stay."""
    job = await completed(rt, provider)
    provider.outcome = FOR_GOOD
    failed = await submit(rt, a_request())
    await start(rt, failed.id)
    cancelled = await submit(rt, a_request())
    await cancel(rt, cancelled.id, tenant_id="default")
    clock.tick(days=30, seconds=1)
    waiting, young = await submit(rt, a_request()), await completed(rt, provider)

    await turns(with_settings(rt, job_retention_days=30))

    left = {
        view.job.id for view in (await listing.page(rt.db, tenant_id="default", limit=9)).views
    }
    counted = await count_jobs(rt.db, now=clock())
    assert left == {waiting.id, young.id}
    assert {str(young.id) in key for key in await every_key(rt)} == {True}
    assert await events.of_job(rt.db, job.id) == []
    assert await attempts.of_job(rt.db, job.id) == []
    assert (counted.total, counted.by_status[Status.COMPLETED], counted.queue_depth) == (2, 1, 1)
    with pytest.raises(NotFound):
        await jobs.get_any_tenant(rt.db, job.id)


@both_databases
async def test_a_job_with_a_running_prediction_is_not_removed(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """It was cancelled, and the end of its prediction must still find its row."""
    job = await submit_and_start(rt, provider)
    await cancel(rt, job.id, tenant_id="default")
    before = await jobs.get_any_tenant(rt.db, job.id)
    clock.tick(days=40)
    rt = with_settings(rt, job_retention_days=30, media_retention_days=1)

    await turns(rt)
    freed = await purge_older(rt, before=clock(), status=None)

    assert await jobs.get_any_tenant(rt.db, job.id) == before
    assert await purges.remove(rt.db, [job.id]) == 0
    assert freed.jobs == 0


@pytest.mark.parametrize("step", ["retention.remove", "retention.removed"])
async def test_an_interrupted_removal_is_finished(
    rt: Runtime, provider: FakeProvider, clock: Clock, step: str
) -> None:
    """The rows of a job are removed in one transaction."""
    job = await completed(rt, provider)
    clock.tick(days=30, seconds=1)
    expiry = Retention(with_settings(rt, job_retention_days=30))
    failpoints.arm(f"{step}=oserror")

    with pytest.raises(OSError, match=step):
        await expiry.turn()
    failpoints.arm("")
    await expiry.turn()

    assert await events.of_job(rt.db, job.id) == []


@both_databases
async def test_many_jobs_are_removed_page_by_page(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn is short, and reports that more is left to do."""
    monkeypatch.setattr(purging, "PAGE", 2)
    done = [await completed(rt, provider) for _ in range(5)]
    clock.tick(days=2)
    expiry = Retention(with_settings(rt, media_retention_days=1))

    waits = [await expiry.turn() for _ in range(3)]

    assert waits == [REST, REST, rt.lease.heartbeat]
    assert [await left_of(rt, job.id) for job in done] == [{"metadata"}] * 5


@both_databases
@pytest.mark.parametrize("kind", ["rates", "batches"])
async def test_rows_without_files_are_removed_page_by_page(
    rt: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The next page follows soon, although no job waits for the loop."""
    monkeypatch.setattr(request_rates, "REMOVED", 2)
    monkeypatch.setattr(purging, "PAGE", 2)
    for number in range(5):
        if kind == "rates":
            await request_rates.take(rt.db, str(number), request_rate(600), 1, now=clock())
        else:
            batch = Batch(id=BatchId(uuid7()), tenant_id="default", total=3, created_at=clock())
            identity = RequestIdentity(tenant_id="default", digest=bytes([number]))
            await batches.create(rt.db, batch, identity=identity, max_live=None)
        clock.tick(seconds=1)
    clock.tick(days=2)
    expiry = Retention(with_settings(rt, job_retention_days=1))

    waits = [await expiry.turn() for _ in range(3)]

    assert waits == [REST, REST, rt.lease.heartbeat]
    assert await request_rates.remove_full(rt.db, before=clock()) == 0
    assert await batches.remove_empty(rt.db, before=clock(), limit=1) == 0


@both_databases
async def test_an_irremovable_file_does_not_block_others(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again in turn, and no job lists it in the meantime."""
    monkeypatch.setattr(purging, "PAGE", 2)
    done = [await completed(rt, provider) for _ in range(5)]
    clock.tick(days=2)
    storage = Irremovable(rt.storage, done[0].id, done[1].id)
    rt = with_settings(replace(rt, storage=storage), media_retention_days=1)

    await turns(rt, 4)
    while_stubborn = [await left_of(rt, job.id) for job in done]
    storage.job_ids.clear()
    await turns(rt, 4)

    assert while_stubborn == [{"media", "metadata"}] * 2 + [{"metadata"}] * 3
    assert [await left_of(rt, job.id) for job in done] == [{"metadata"}] * 5


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_whole_page_of_irremovable_files_does_not_block_others(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """If they were always tried first, the storage would seem to be unavailable for ever."""
    done = [await completed(rt, provider) for _ in range(AT_ONCE + 1)]
    storage = Irremovable(rt.storage, *(job.id for job in done[:AT_ONCE]))
    rt = replace(rt, storage=storage)
    for job in done:
        await mark(rt, job.id, ALL_PARTS, cause="request")
        clock.tick(seconds=1)

    await turns(rt, 20)

    assert await left_of(rt, done[-1].id) == set()


async def test_an_unavailable_storage_is_paused(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A few failures are enough to recognise the outage."""
    done = [await completed(rt, provider) for _ in range(12)]
    clock.tick(days=2)
    storage = Irremovable(rt.storage, *(job.id for job in done))
    rt = with_settings(replace(rt, storage=storage), media_retention_days=1)

    wait = await Retention(rt).turn()

    marked = [(await jobs.get_any_tenant(rt.db, job.id)).purging for job in done]
    assert wait == rt.lease.heartbeat * TROUBLED
    assert marked.count(True) == 8


@both_databases
@pytest.mark.parametrize(
    ("status", "purged"),
    [(None, [True, True]), (Status.COMPLETED, [True, False]), (Status.CANCELLED, [False, True])],
    ids=["all", "completed", "cancelled"],
)
async def test_an_operator_purges_old_jobs(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    *,
    status: Status | None,
    purged: list[bool],
) -> None:
    """By age and optionally by status; young jobs stay."""
    monkeypatch.setattr(purging, "PAGE", 1)
    old, stopped = await completed(rt, provider), await submit(rt, a_request())
    await cancel(rt, stopped.id, tenant_id="default")
    clock.tick(days=2)
    young = await completed(rt, provider)
    before = clock() - timedelta(days=1)

    weight = await purges.weigh(rt.db, before=before, status=status)
    freed = await purge_older(rt, before=before, status=status)

    after = [await jobs.get_any_tenant(rt.db, job.id) for job in (old, stopped, young)]
    assert [job.purged_at is not None for job in after] == [*purged, False]
    assert (weight.jobs, freed.jobs) == (sum(purged), sum(purged))
    assert weight.files == int(purged[0])
    assert freed.files == 2 * purged[0]
    assert weight.size_bytes <= freed.size_bytes
    assert (await purges.weigh(rt.db, before=before, status=status)).jobs == 0


async def test_an_operator_s_purge_ends_during_a_storage_outage(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reports how many jobs it could not purge, and marks no more."""
    monkeypatch.setattr(purging, "PAGE", 1)
    done = [await completed(rt, provider) for _ in range(3)]
    storage: Any = Irremovable(rt.storage, *(job.id for job in done))
    clock.tick(days=2)

    freed = await purge_older(replace(rt, storage=storage), before=clock(), status=None)

    assert (freed.jobs, freed.failed) == (0, 1)
