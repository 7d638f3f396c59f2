"""Purging: first the row, then the files, then the row again, so a crash leaves little to do."""

from collections.abc import Generator

import pytest

from backing_services import both_databases
from fakes import WELL, Clock, FakeProvider, a_request
from fleek import failpoints
from fleek.domain.attempt import Verdict
from fleek.domain.errors import IllegalTransition, NotFound
from fleek.domain.job import Status
from fleek.domain.media import Output, Part, media_key
from fleek.engine.purge import ALL_PARTS, Retention, erase, mark, purge
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.engine.watch import Watch
from fleek.providers.base import Succeeded
from fleek.store import attempts, events, jobs, listing
from recovering import Recovering
from stored_outputs import (
    completed,
    days_pass,
    every_key,
    left_of,
    save,
    submit_and_start,
    with_settings,
)

STEPS = ("purged.write", "purged.written", "purge.delete", "erased.write", "erased.written")


@pytest.fixture(autouse=True)
def _disarmed() -> Generator[None]:
    """Leave no failpoint armed for the next test."""
    yield
    failpoints.arm("")


@both_databases
async def test_a_purged_job_leaves_nothing_in_storage(rt: Runtime, provider: FakeProvider) -> None:
    """The rows of its files are removed, too; the job stays, and its history shows the purge."""
    job, other = await completed(rt, provider), await completed(rt, provider)

    _, first = await purge(rt, job.id, tenant_id="default")
    await Retention(rt).turn()

    view = await jobs.get(rt.db, job.id, tenant_id="default")
    history = [event.type for event in await events.of_job(rt.db, job.id)]
    assert first
    assert (await left_of(rt, job.id), view.media) == (set(), ())
    assert (view.job.status, view.job.completed_at) == (Status.COMPLETED, job.completed_at)
    assert (view.job.purging, view.job.purged_at) == (False, rt.now())
    assert history[-3:] == ["completed", "purged", "erased"]
    assert await left_of(rt, other.id) == {"media", "metadata"}


async def test_a_marked_job_lists_no_files(rt: Runtime, provider: FakeProvider) -> None:
    """The files still exist, but readers must not be sent to them."""
    job = await completed(rt, provider)

    await purge(rt, job.id, tenant_id="default")

    (listed,) = (await listing.page(rt.db, tenant_id="default", limit=9)).views
    assert listed.media == (await jobs.get(rt.db, job.id, tenant_id="default")).media == ()
    assert await left_of(rt, job.id) == {"media", "metadata"}


async def test_inline_text_of_an_uncollected_job_is_removed(
    rt: Runtime, provider: FakeProvider
) -> None:
    """A short text becomes a file only when it is collected."""
    job = await completed(rt, provider, outcome=Succeeded((Output(text="a secret"),)))

    await purge(rt, job.id, tenant_id="default")
    await Retention(rt).turn()

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert (attempt.result, attempt.verdict) == (None, Verdict.SUCCEEDED)


async def test_a_purge_removes_files_without_rows(rt: Runtime, provider: FakeProvider) -> None:
    """Another worker may have collected without success."""
    job = await completed(rt, provider)
    assert job.attempt_id is not None
    await save(rt, media_key(job.id, job.attempt_id, 9, sha256="f" * 64, extension="png"))

    await purge(rt, job.id, tenant_id="default")
    await Retention(rt).turn()

    assert await left_of(rt, job.id) == set()


async def test_purging_twice_changes_nothing(rt: Runtime, provider: FakeProvider) -> None:
    """The response to the first purge may have been lost."""
    job = await completed(rt, provider)
    await purge(rt, job.id, tenant_id="default")
    await Retention(rt).turn()
    before = await jobs.get_any_tenant(rt.db, job.id)

    again, first = await purge(rt, job.id, tenant_id="default")

    assert not first
    assert again == before == await jobs.get_any_tenant(rt.db, job.id)


@both_databases
async def test_a_running_job_is_cancelled_and_purged_after_its_end(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The prediction may still return outputs, which have to be found and removed."""
    job = await submit_and_start(rt, provider)

    marked, _ = await purge(rt, job.id, tenant_id="default")
    await Retention(rt).turn()
    between = await jobs.get_any_tenant(rt.db, job.id)
    await Recovering(rt).turn()
    provider.outcome = WELL
    clock.tick(seconds=5)
    await Watch(rt).turn()
    await Retention(rt).turn()

    after = await jobs.get_any_tenant(rt.db, job.id)
    assert (marked.status, marked.purged_at is None) == (Status.CANCELLED, False)
    assert between.purging
    assert not after.purging
    assert provider.cancelled == [job.prediction_id]
    assert await left_of(rt, job.id) == set()


async def test_a_purge_during_expiry_removes_the_rest(rt: Runtime, provider: FakeProvider) -> None:
    """Media expire, and during their removal the caller purges the document, too."""
    job = await completed(rt, provider)
    marked, _ = await mark(rt, job.id, [Part.MEDIA], cause="media")
    await mark(rt, job.id, [Part.METADATA], cause="request")

    await erase(rt, marked)
    between = await jobs.get_any_tenant(rt.db, job.id)
    there = await left_of(rt, job.id)
    await Retention(rt).turn()

    assert (between.purging, there) == (True, {"metadata"})
    assert await left_of(rt, job.id) == set()
    assert not (await jobs.get_any_tenant(rt.db, job.id)).purging


async def test_a_foreign_job_is_not_found(rt: Runtime, provider: FakeProvider) -> None:
    """It keeps its files."""
    job = await completed(rt, provider)

    with pytest.raises(NotFound):
        await purge(rt, job.id, tenant_id="other")

    assert (await jobs.get_any_tenant(rt.db, job.id)).purged_at is None


async def test_a_running_job_cannot_be_marked(rt: Runtime) -> None:
    """Its result is still to come."""
    job = await submit(rt, a_request())

    with pytest.raises(IllegalTransition, match="purged"):
        await mark(rt, job.id, ALL_PARTS, cause="job")


@both_databases
@pytest.mark.parametrize("step", STEPS)
async def test_an_interrupted_purge_is_finished_by_the_next_turn(
    rt: Runtime, provider: FakeProvider, clock: Clock, step: str
) -> None:
    """At no moment does a job list a file that does not exist."""
    job = await completed(rt, provider)
    rt = with_settings(rt, media_retention_days=1, metadata_retention_days=1)
    days_pass(clock, 2)
    failpoints.arm(f"{step}=dberror")

    await Retention(rt).turn()
    interrupted = await jobs.get(rt.db, job.id, tenant_id="default")
    before = await every_key(rt)
    for _ in range(3):
        await Retention(rt).turn()

    assert {one.key for one in interrupted.media} <= before
    assert await left_of(rt, job.id) == set()
    after = await jobs.get_any_tenant(rt.db, job.id)
    assert (after.purging, after.status) == (False, Status.COMPLETED)
