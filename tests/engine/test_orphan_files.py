"""Orphaned files: they are removed after a day, and files that a job may need stay."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs
from uuid_utils.compat import uuid7

from backing_services import both_databases
from fakes import Clock, FakeProvider, a_request
from fleek.domain.errors import StorageError
from fleek.domain.job import AttemptId, JobId
from fleek.domain.media import Key, Output, media_key, metadata_key
from fleek.engine import orphan_files
from fleek.engine.cancel import cancel
from fleek.engine.collect import INLINE_CHARS
from fleek.engine.conclude import conclude
from fleek.engine.orphan_files import EVERY, REST, SOON, OrphanFiles, OrphanSearch
from fleek.engine.purge import purge
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.providers.base import Prediction, Succeeded
from fleek.store import attempts
from stored_outputs import completed, days_pass, every_key, left_of, save, submit_and_start


def a_key(job_id: JobId, *, index: int = 7) -> Key:
    """Return a key that no row contains."""
    return media_key(job_id, AttemptId(uuid7()), index, sha256="f" * 64, extension="png")


async def all_of(search: OrphanSearch) -> OrphanSearch:
    """Search to the end."""
    while await search.batch():
        pass
    return search


@both_databases
async def test_files_left_by_a_crash_are_removed_after_the_end(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """They belong to a lost attempt, or are the document of a job that never completed."""
    done, stopped = await completed(rt, provider), await submit(rt, a_request())
    await cancel(rt, stopped.id, tenant_id="default")
    kept = await every_key(rt)
    await save(rt, a_key(done.id))
    await save(rt, a_key(stopped.id))
    await save(rt, metadata_key(stopped.id))
    days_pass(clock, 2)

    search = await all_of(OrphanSearch(rt))

    assert await every_key(rt) == kept
    assert (search.result.files, search.result.orphans, search.result.unknown) == (5, 3, 0)


@both_databases
async def test_inline_outputs_of_a_cancelled_job_are_removed(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The job had its result, and was cancelled before it was collected."""
    job = await submit_and_start(rt, provider)
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert job.prediction_id is not None
    outcome = Succeeded((Output(text="a cat " * INLINE_CHARS),))
    await conclude(rt, attempt, Prediction(id=job.prediction_id, outcome=outcome))
    days_pass(clock, 2)
    await all_of(OrphanSearch(rt))
    while_collecting = await left_of(rt, job.id)
    await cancel(rt, job.id, tenant_id="default")

    await all_of(OrphanSearch(rt))

    assert while_collecting == {"media"}
    assert await every_key(rt) == set()


@both_databases
async def test_files_that_a_job_may_need_stay(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """While it runs, and after a cancellation until its prediction has ended."""
    running, stopped = await submit_and_start(rt, provider), await submit_and_start(rt, provider)
    await cancel(rt, stopped.id, tenant_id="default")
    files = {await save(rt, a_key(job.id)) for job in (running, stopped)}
    days_pass(clock, 2)

    await all_of(OrphanSearch(rt))

    assert await every_key(rt) == files


async def test_a_young_file_stays(rt: Runtime, clock: Clock) -> None:
    """Its writer may be about to record its key."""
    job = await submit(rt, a_request())
    await cancel(rt, job.id, tenant_id="default")
    file = await save(rt, a_key(job.id))
    days_pass(clock, 0.9)

    await all_of(OrphanSearch(rt))

    assert await every_key(rt) == {file}


async def test_files_written_after_a_purge_are_removed(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A suspended worker may write them when it resumes."""
    job = await completed(rt, provider)
    await purge(rt, job.id, tenant_id="default")
    days_pass(clock, 2)

    await all_of(OrphanSearch(rt))

    assert await every_key(rt) == set()


@pytest.mark.parametrize("unknown", [False, True])
async def test_files_of_unknown_jobs_are_removed_on_request_only(
    rt: Runtime, clock: Clock, *, unknown: bool
) -> None:
    """A wrong DATABASE_URL must not empty a storage."""
    file = await save(rt, a_key(JobId(uuid7())))
    days_pass(clock, 2)

    search = await all_of(OrphanSearch(rt, unknown=unknown))

    assert search.result.unknown == 1
    assert (file in await every_key(rt)) != unknown


async def test_foreign_files_stay(rt: Runtime, clock: Clock) -> None:
    """Other files may lie in the same folder."""
    files = {
        await save(rt, Key(key))
        for key in ("media/note.txt", "metadata/note.json", f"media/{uuid7().hex}/a/0.png")
    }
    days_pass(clock, 2)

    await all_of(OrphanSearch(rt, unknown=True))

    assert await every_key(rt) == files


async def test_a_dry_run_removes_nothing(rt: Runtime, clock: Clock) -> None:
    """It only counts."""
    file = await save(rt, a_key(JobId(uuid7())))
    days_pass(clock, 2)

    search = await all_of(OrphanSearch(rt, unknown=True, dry=True))

    assert (search.result.orphans, search.result.size_bytes > 0) == (1, True)
    assert await every_key(rt) == {file}


async def test_turns_are_small_and_infrequent(
    rt: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million files are scanned step by step, some times a day, with one line in the log."""
    monkeypatch.setattr(orphan_files, "BATCH", 2)
    job = await submit(rt, a_request())
    await cancel(rt, job.id, tenant_id="default")
    for index in range(5):
        await save(rt, a_key(job.id, index=index))
    days_pass(clock, 2)
    turns = OrphanFiles(rt)

    first = await turns.turn()
    clock.tick(seconds=first.total_seconds())
    with capture_logs() as logs:
        waits = [await turns.turn() for _ in range(3)]

    assert first == rt.lease.heartbeat * SOON
    assert waits[:2] == [REST, REST]
    assert EVERY * 0.8 <= waits[2] <= EVERY * 1.2
    assert [(log["event"], log["files"], log["orphans"]) for log in logs] == [
        ("orphan_files_removed", 5, 5)
    ]
    assert await every_key(rt) == set()


async def test_an_irremovable_file_does_not_block_others(
    rt: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes first in each search."""
    job = await submit(rt, a_request())
    await cancel(rt, job.id, tenant_id="default")
    stuck, other = sorted(a_key(job.id, index=index) for index in (1, 2))
    await save(rt, stuck)
    await save(rt, other)
    days_pass(clock, 2)
    delete = rt.storage.delete

    async def denied(key: Key) -> None:
        if key == stuck:
            raise StorageError("permission denied")
        await delete(key)

    monkeypatch.setattr(rt.storage, "delete", denied)

    search = await all_of(OrphanSearch(rt))

    assert await every_key(rt) == {stuck}
    assert (search.result.orphans, search.result.failed) == (1, 1)


async def test_an_unavailable_storage_is_scanned_later(rt: Runtime, clock: Clock) -> None:
    """The scan starts again, but not at once."""

    class Away:
        def keys(self, prefix: str) -> Any:
            raise StorageError(f"{prefix} cannot be listed")

    storage: Any = Away()
    turns = OrphanFiles(replace(rt, storage=storage))
    clock.tick(days=1)

    with pytest.raises(StorageError):
        await turns.turn()

    assert await turns.turn() == rt.lease.heartbeat * SOON
