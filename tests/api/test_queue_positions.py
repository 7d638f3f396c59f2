"""Who waits in front of whom."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fakes import FakeProvider, a_request
from fleek.api import queue_positions as module
from fleek.api.queue_positions import QueuePositions
from fleek.domain.job import Status
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit


async def test_the_best_are_first_and_those_of_later_last(rt: Runtime) -> None:
    """By priority, then by age; a job of later waits behind all that is due."""
    made = [await submit(rt, a_request(priority=priority)) for priority in (5, 9, 5, 0)]
    later = await submit(rt, a_request(run_at=rt.now() + timedelta(hours=1)))
    line = QueuePositions()

    places = [await line.position(rt, job) for job in (*made, later)]

    assert places == [1, 0, 2, 3, 3]


async def test_a_job_that_does_not_wait_has_no_place(rt: Runtime) -> None:
    """It is being made, or has ended."""
    job = await submit(rt, a_request())

    assert await QueuePositions().position(rt, replace(job, status=Status.COMPLETED)) is None


async def test_a_provider_s_line_is_its_own(rt: Runtime) -> None:
    """One that is busy holds up nobody else."""
    rt = replace(rt, providers={**rt.providers, "fake": FakeProvider()})
    await submit(rt, a_request(provider="fake"))
    job = await submit(rt, a_request())

    assert await QueuePositions().position(rt, job) == 0


async def test_the_line_is_read_once_for_all_who_ask(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand callers asking for their place cost what one costs."""
    monkeypatch.setattr(module, "FRESH_SECONDS", 3600)
    first = await submit(rt, a_request())
    line = QueuePositions()
    await line.position(rt, first)
    second = await submit(rt, a_request(priority=9))

    stale = await line.position(rt, first)
    monkeypatch.setattr(module, "FRESH_SECONDS", -1)
    fresh = await line.position(rt, first)

    assert (stale, fresh, await line.position(rt, second)) == (0, 1, 0)
