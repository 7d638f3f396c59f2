"""An operator's pause: nothing of it is started, nothing of it is lost, whatever restarts."""

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


class Told:
    """A dispatcher that remembers what it was told."""

    def __init__(self) -> None:
        self.ids: list[JobId] = []

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Remember it."""
        assert task == "start"
        self.ids.append(job_id)

    async def consume(self, *_: object, **__: object) -> None:
        """Never called."""
        raise AssertionError

    async def check(self) -> None:
        """Always fine."""


PARTS = {
    "all": (None, None),
    "its provider": ("placeholder", None),
    "its model": (None, "fake/model"),
    "its model at its provider": ("placeholder", "fake/model"),
}


@pytest.mark.parametrize(("provider_name", "model"), PARTS.values(), ids=PARTS.keys())
async def test_what_is_paused_waits_and_goes_on_when_it_is_resumed(
    rt: Runtime, provider_name: str | None, model: str | None
) -> None:
    """It is accepted and stays in the queue; another coordinator knows of the pause, too."""
    told = Told()
    rt = replace(rt, dispatcher=told)
    await pause(rt, provider_name, model)
    job = await submit(rt, a_request())

    await Admission(rt).turn()
    restarted = replace(rt, pauses=PauseCache())
    await Admission(restarted).turn()
    before = list(told.ids)
    await resume(rt, provider_name, model)
    await Admission(restarted).turn()

    assert (before, told.ids) == ([], [job.id])


async def test_what_is_not_paused_is_started(rt: Runtime) -> None:
    """The pause of one model, or of another provider, holds up no other job."""
    told = Told()
    rt = replace(rt, dispatcher=told)
    await queue_pauses.pause(rt.db, "another", queue_pauses.EVERY, now=rt.now())
    await pause(rt, None, "another/model")
    job = await submit(rt, a_request())
    await submit(rt, a_request(model=ModelName("another/model")))

    await Admission(rt).turn()

    assert told.ids == [job.id]


async def test_a_worker_starts_nothing_that_was_dispatched_before_the_pause(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Ids are in its queue already; no attempt is counted."""
    job = await submit(rt, a_request())
    await queue_pauses.pause(rt.db, queue_pauses.EVERY, queue_pauses.EVERY, now=rt.now())
    await refresh_pauses(rt)  # as with each heartbeat

    await start(rt, job.id)

    assert provider.started == []
    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert (waiting.status, waiting.attempt, waiting.version) == (Status.PENDING, 0, 1)


async def test_a_running_prediction_is_not_touched(rt: Runtime, provider: FakeProvider) -> None:
    """It is paid for."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)

    await pause(rt, None, None)

    running = await jobs.get_any_tenant(rt.db, job.id)
    assert (running.stage, provider.cancelled) == (Stage.WAITING, [])


async def test_pauses_are_apart(rt: Runtime, clock: Clock) -> None:
    """To pause twice is to pause once, and the end of one leaves the others."""
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
    """An operator who has forgotten it wonders why nothing starts."""
    before = await check_queue(rt.db, now=rt.now())
    await pause(rt, None, "the/model")

    finding = await check_queue(rt.db, now=rt.now())

    assert (before.status, finding.status) == ("ok", "warning")
    assert "the/model of every provider" in finding.message
    assert "fleek queue resume" in finding.advice
