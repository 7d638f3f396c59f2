"""An operator's pause: nothing paused starts and nothing is lost, also after a restart."""

from dataclasses import replace

import pytest

from backing_services import both_databases
from fakes import Clock, FakeProvider, a_request
from fleek.diagnosis import check_queue
from fleek.dispatch.base import Task
from fleek.domain.job import JobId, ModelName, Stage, Status
from fleek.engine.admit import Admission
from fleek.engine.provider_limits import PauseCache
from fleek.engine.queue import pause, resume
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.throttle import refresh_pauses
from fleek.store import jobs, queue_pauses

pytestmark = both_databases


class RecordingDispatcher:
    """A dispatcher that records ids."""

    def __init__(self) -> None:
        self.ids: list[JobId] = []

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Record the id."""
        assert task == "start"
        self.ids.append(job_id)

    async def consume(self, *_: object, **__: object) -> None:
        """Never called."""
        raise AssertionError

    async def check(self) -> None:
        """Always succeed."""


PARTS = {
    "all": (None, None),
    "its provider": ("placeholder", None),
    "its model": (None, "fake/model"),
    "its model at its provider": ("placeholder", "fake/model"),
}


@pytest.mark.parametrize(("provider_name", "model"), PARTS.values(), ids=PARTS.keys())
async def test_paused_jobs_wait_until_they_are_resumed(
    rt: Runtime, provider_name: str | None, model: str | None
) -> None:
    """They are accepted and stay in the queue, and another coordinator has the pause, too."""
    dispatched = RecordingDispatcher()
    rt = replace(rt, dispatcher=dispatched)
    await pause(rt, provider_name, model)
    job = await submit(rt, a_request())

    await Admission(rt).turn()
    restarted = replace(rt, pauses=PauseCache())
    await Admission(restarted).turn()
    before = list(dispatched.ids)
    await resume(rt, provider_name, model)
    await Admission(restarted).turn()

    assert (before, dispatched.ids) == ([], [job.id])


async def test_other_jobs_start_during_a_pause(rt: Runtime) -> None:
    """The pause of one model or provider blocks no other job."""
    dispatched = RecordingDispatcher()
    rt = replace(rt, dispatcher=dispatched)
    await queue_pauses.pause(rt.db, "another", queue_pauses.EVERY, now=rt.now())
    await pause(rt, None, "another/model")
    job = await submit(rt, a_request())
    await submit(rt, a_request(model=ModelName("another/model")))

    await Admission(rt).turn()

    assert dispatched.ids == [job.id]


async def test_a_worker_starts_no_paused_job_dispatched_before_the_pause(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Ids may be in its queue already, and no attempt is counted."""
    job = await submit(rt, a_request())
    await queue_pauses.pause(rt.db, queue_pauses.EVERY, queue_pauses.EVERY, now=rt.now())
    await refresh_pauses(rt)  # part of each heartbeat

    await start(rt, job.id)

    assert provider.started == []
    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert (waiting.status, waiting.attempt, waiting.version) == (Status.PENDING, 0, 1)


async def test_a_pause_does_not_affect_running_predictions(
    rt: Runtime, provider: FakeProvider
) -> None:
    """They are paid for."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)

    await pause(rt, None, None)

    running = await jobs.get_any_tenant(rt.db, job.id)
    assert (running.stage, provider.cancelled) == (Stage.WAITING, [])


async def test_pauses_are_independent(rt: Runtime, clock: Clock) -> None:
    """Pausing twice is pausing once, and the end of one pause leaves the others."""
    await pause(rt, None, None)
    clock.tick(seconds=1)
    await pause(rt, None, None)
    await pause(rt, "placeholder", None)

    await resume(rt, None, None)
    await resume(rt, None, None)

    (left,) = await queue_pauses.read(rt.db)
    assert (left.provider, left.model, left.since) == (
        "placeholder",
        queue_pauses.EVERY,
        clock.time,
    )
    assert rt.pauses.is_paused("placeholder", "fake/model", now=rt.now())
    assert not rt.pauses.is_paused("another", "fake/model", now=rt.now())


async def test_the_check_of_the_queue_names_a_pause(rt: Runtime) -> None:
    """A forgotten pause explains why nothing starts."""
    before = await check_queue(rt.db, now=rt.now())
    await pause(rt, None, "the/model")

    finding = await check_queue(rt.db, now=rt.now())

    assert (before.status, finding.status) == ("ok", "warning")
    assert "the/model of every provider" in finding.message
    assert "fleek queue resume" in finding.advice
