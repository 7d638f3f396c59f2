"""Positions of waiting jobs in the queue."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fakes import FakeProvider, a_request
from fleek.api import queue_positions as module
from fleek.api.queue_positions import QueuePositions
from fleek.domain.job import Status
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit


async def test_positions_follow_priority_age_and_schedule(rt: Runtime) -> None:
    """Scheduled jobs are behind all that are due."""
    made = [await submit(rt, a_request(priority=priority)) for priority in (5, 9, 5, 0)]
    later = await submit(rt, a_request(run_at=rt.now() + timedelta(hours=1)))
    line = QueuePositions()

    places = [await line.position(rt, job) for job in (*made, later)]

    assert places == [1, 0, 2, 3, 3]


async def test_tenants_take_turns(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of a tenant with few is before those of one with many; also one that came after the look."""
    monkeypatch.setattr(module, "FRESH_SECONDS", 3600)
    many = [await submit(rt, a_request(tenant_id="many")) for _ in range(3)]
    few = await submit(rt, a_request(tenant_id="few"))
    line = QueuePositions()

    places = [await line.position(rt, job) for job in (*many, few)]
    fourth = await submit(rt, a_request(tenant_id="many"))
    second = await submit(rt, a_request(tenant_id="few"))

    assert places == [0, 2, 3, 1]
    assert await line.position(rt, fourth) == 4
    assert await line.position(rt, second) == 3


async def test_a_job_that_is_not_pending_has_no_position(rt: Runtime) -> None:
    """It is in progress, or has ended."""
    job = await submit(rt, a_request())

    assert await QueuePositions().position(rt, replace(job, status=Status.COMPLETED)) is None


async def test_each_provider_has_its_own_queue(rt: Runtime) -> None:
    """A busy provider does not delay the others."""
    rt = replace(rt, providers={**rt.providers, "fake": FakeProvider()})
    await submit(rt, a_request(provider="fake"))
    job = await submit(rt, a_request())

    assert await QueuePositions().position(rt, job) == 0


async def test_the_queue_is_read_once_for_concurrent_requests(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand requests for positions cost as much as one."""
    monkeypatch.setattr(module, "FRESH_SECONDS", 3600)
    monkeypatch.setattr(module, "SHARE", 0)
    first = await submit(rt, a_request())
    line = QueuePositions()
    await line.position(rt, first)
    second = await submit(rt, a_request(priority=9))

    stale = await line.position(rt, first)
    monkeypatch.setattr(module, "FRESH_SECONDS", -1)
    fresh = await line.position(rt, first)

    assert (stale, fresh, await line.position(rt, second)) == (0, 1, 0)
