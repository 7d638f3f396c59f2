"""Purging: the row first, then the bytes, then the row again; whoever stops in between owes little."""

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
from stored_outputs import bought, completed, days_pass, every_key, left_of, save, with_settings

STEPS = ("purged.write", "purged.written", "purge.delete", "erased.write", "erased.written")


@pytest.fixture(autouse=True)
def _disarmed() -> Generator[None]:
    """Leave nothing armed for whoever comes next."""
    yield
    failpoints.arm("")


@both_databases
async def test_a_purged_job_leaves_nothing_in_storage(rt: Runtime, provider: FakeProvider) -> None:
    """Nor rows of its files; it stays as it ended, and its history tells what was done."""
    job, other = await completed(rt, provider), await completed(rt, provider)

    _, first = await purge(rt, job.id, tenant_id="default")
    await Retention(rt).turn()

    view = await jobs.get(rt.db, job.id, tenant_id="default")
    told = [event.type for event in await events.of_job(rt.db, job.id)]
    assert first
    assert (await left_of(rt, job.id), view.media) == (set(), ())
    assert (view.job.status, view.job.completed_at) == (Status.COMPLETED, job.completed_at)
    assert (view.job.purging, view.job.purged_at) == (False, rt.now())
    assert told[-3:] == ["completed", "purged", "erased"]
    assert await left_of(rt, other.id) == {"media", "metadata"}


async def test_from_the_mark_on_no_file_is_named(rt: Runtime, provider: FakeProvider) -> None:
    """The bytes are there still; whoever reads the job must not be sent to them."""
    job = await completed(rt, provider)

    await purge(rt, job.id, tenant_id="default")

    (listed,) = (await listing.page(rt.db, tenant_id="default", limit=9)).views
    assert listed.media == (await jobs.get(rt.db, job.id, tenant_id="default")).media == ()
    assert await left_of(rt, job.id) == {"media", "metadata"}


async def test_words_that_were_kept_with_the_answer_go_too(
    rt: Runtime, provider: FakeProvider
) -> None:
    """A short text never became a file of its own before it was collected."""
    job = await completed(rt, provider, outcome=Succeeded((Output(text="a secret"),)))

    await purge(rt, job.id, tenant_id="default")
    await Retention(rt).turn()

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert (attempt.result, attempt.verdict) == (None, Verdict.SUCCEEDED)


async def test_a_file_that_no_row_names_goes_with_its_job(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Somebody else may have collected in vain."""
    job = await completed(rt, provider)
    assert job.attempt_id is not None
    await save(rt, media_key(job.id, job.attempt_id, 9, sha256="f" * 64, extension="png"))

    await purge(rt, job.id, tenant_id="default")
    await Retention(rt).turn()

    assert await left_of(rt, job.id) == set()


async def test_purging_twice_changes_nothing(rt: Runtime, provider: FakeProvider) -> None:
    """The first answer may have been lost."""
    job = await completed(rt, provider)
    await purge(rt, job.id, tenant_id="default")
    await Retention(rt).turn()
    before = await jobs.get_any_tenant(rt.db, job.id)

    again, first = await purge(rt, job.id, tenant_id="default")

    assert not first
    assert again == before == await jobs.get_any_tenant(rt.db, job.id)


@both_databases
async def test_what_runs_is_cancelled_and_purged_when_it_has_ended(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Money is on its way until then: what it brings must be found and removed."""
    job = await bought(rt, provider)

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


async def test_what_is_purged_meanwhile_is_removed_too(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Its media expire, and while they are removed its caller wants the rest gone."""
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


async def test_a_job_of_somebody_else_is_not_found(rt: Runtime, provider: FakeProvider) -> None:
    """And keeps what it has."""
    job = await completed(rt, provider)

    with pytest.raises(NotFound):
        await purge(rt, job.id, tenant_id="other")

    assert (await jobs.get_any_tenant(rt.db, job.id)).purged_at is None


async def test_a_job_that_runs_cannot_be_marked(rt: Runtime) -> None:
    """Its result is still owed to somebody."""
    job = await submit(rt, a_request())

    with pytest.raises(IllegalTransition, match="purged"):
        await mark(rt, job.id, ALL_PARTS, cause="job")


@both_databases
@pytest.mark.parametrize("step", STEPS)
async def test_whatever_interrupts_a_purge_the_next_turn_finishes_it(
    rt: Runtime, provider: FakeProvider, clock: Clock, step: str
) -> None:
    """And at no moment is anybody sent to a file that is not there."""
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
