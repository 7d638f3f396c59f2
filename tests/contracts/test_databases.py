"""The engine on every database: all of them keep the same promises."""

import asyncio
from dataclasses import replace

import pytest

from backing_services import both_databases
from fakes import Clock, FakeProvider, a_request
from fleek.domain.errors import Conflict, NotFound
from fleek.domain.job import Job, JobId, Status
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import retry, submit
from fleek.engine.watch import Watch
from fleek.store import events, jobs
from fleek.store.counters import count_jobs
from fleek.store.database import open_database

pytestmark = both_databases

HISTORY = ["submitted", "starting", "waiting", "predicted", "collecting", "completed"]


async def seen(rt: Runtime, job_id: JobId) -> Job:
    """Return the job as it is now."""
    return await jobs.get_any_tenant(rt.db, job_id)


async def through(rt: Runtime, clock: Clock, job_id: JobId) -> None:
    """Take a job from its submission to its end, like the loops."""
    await start(rt, job_id)
    clock.tick(seconds=5)
    await Watch(rt).turn()
    await collect(rt, job_id)


async def test_a_job_runs_from_submit_to_completed(rt: Runtime, clock: Clock) -> None:
    """With its file, its history and its counters."""
    job = await submit(rt, a_request())

    await through(rt, clock, job.id)

    view = await jobs.get(rt.db, job.id, tenant_id="default")
    assert (view.job.status, len(view.media)) == (Status.COMPLETED, 1)
    assert [one.type for one in await events.of_job(rt.db, job.id)] == HISTORY
    assert (await count_jobs(rt.db, now=rt.now())).by_status[Status.COMPLETED] == 1


async def test_a_message_delivered_twice_starts_a_job_once(
    rt: Runtime, provider: FakeProvider
) -> None:
    """A dispatcher may deliver twice, and one claim wins."""
    job = await submit(rt, a_request())

    await asyncio.gather(*(start(rt, job.id) for _ in range(5)))

    assert len(provider.started) == 1


async def test_two_processes_start_a_job_once(rt: Runtime, provider: FakeProvider) -> None:
    """Each has its own connections to the database."""
    made = [await submit(rt, a_request()) for _ in range(10)]
    async with open_database(rt.settings.database_url) as db:
        other = replace(rt, db=db)

        await asyncio.gather(*(start(one, job.id) for job in made for one in (rt, other)))

    assert len(provider.started) == 10


async def test_of_cancellation_and_completion_one_wins(rt: Runtime, clock: Clock) -> None:
    """All callers get the same result."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    clock.tick(seconds=5)
    await Watch(rt).turn()

    answers = await asyncio.gather(
        collect(rt, job.id), cancel(rt, job.id, tenant_id="default"), return_exceptions=True
    )

    ended = await seen(rt, job.id)
    assert ended.status in {Status.COMPLETED, Status.CANCELLED}
    assert isinstance(answers[1], Conflict) == (ended.status is Status.COMPLETED)
    ends = [one.type for one in await events.of_job(rt.db, job.id)]
    assert len({"completed", "cancelled"} & set(ends)) == 1


async def test_a_cancelled_job_is_retried_with_the_same_request(rt: Runtime) -> None:
    """Documents are returned by the database with the order of their keys."""
    request = a_request(parameters={"z": 1.0, "a": {"y": [1, 2], "b": None}}, priority=9)
    job = await submit(rt, request)
    await cancel(rt, job.id, tenant_id="default")

    again, _ = await retry(rt, job.id, tenant_id="default")

    assert again.id != job.id
    assert list(again.input.items()) == list(job.input.items())
    assert again.priority == 9


async def test_a_foreign_job_cannot_be_read_or_changed(rt: Runtime) -> None:
    """It looks like a missing one."""
    job = await submit(rt, a_request(tenant_id="somebody"))

    for act in (jobs.get(rt.db, job.id, tenant_id="default"), _cancel(rt, job), _retry(rt, job)):
        with pytest.raises(NotFound):
            await act
    assert (await seen(rt, job.id)).status is Status.PENDING


async def _cancel(rt: Runtime, job: Job) -> None:
    await cancel(rt, job.id, tenant_id="default")


async def _retry(rt: Runtime, job: Job) -> None:
    await retry(rt, job.id, tenant_id="default")
