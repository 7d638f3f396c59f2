"""Reads for those who follow jobs."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from fleek.api import turns
from fleek.domain.errors import DatabaseUnavailable
from fleek.engine.loops import Wakeups
from fleek.telemetry import Metrics


class Reads:
    """Answers reads one after the other, and lets a test wait for each."""

    def __init__(self, *answers: bool | Exception) -> None:
        self._answers = list(answers)
        self._done = asyncio.Semaphore(0)

    async def read(self) -> bool:
        """Give the next answer; False when there is none left."""
        self._done.release()
        answer = self._answers.pop(0) if self._answers else False
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def next(self) -> None:
        """Wait until one more read has begun."""
        async with asyncio.timeout(30):
            await self._done.acquire()


@pytest.fixture
def rt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what reads need of a runtime."""
    monkeypatch.setattr(turns, "POLL_SECONDS", 1000.0)  # so that only what is tested causes a read
    return SimpleNamespace(wakeups=Wakeups(), metrics=Metrics())


async def follow(rt: Any, reads: Reads, followed: asyncio.Event) -> None:
    """Read until nobody follows."""
    await turns.read_in_turns(rt, reads.read, followed=followed.is_set)


@pytest.fixture
def followed() -> asyncio.Event:
    """Return an event that is set as long as anybody follows."""
    event = asyncio.Event()
    event.set()
    return event


async def test_a_change_is_read_without_waiting_for_the_next_poll(
    rt: Any, followed: asyncio.Event
) -> None:
    """A bell is enough."""
    reads = Reads()
    async with asyncio.TaskGroup() as group:
        group.create_task(follow(rt, reads, followed))
        await reads.next()
        rt.wakeups.notify("events")
        await reads.next()
        followed.clear()
        rt.wakeups.notify("events")


async def test_what_is_left_is_read_at_once(rt: Any, followed: asyncio.Event) -> None:
    """A read that leaves something is followed by another without a bell."""
    reads = Reads(*[True] * 2)
    async with asyncio.TaskGroup() as group:
        group.create_task(follow(rt, reads, followed))
        for _ in range(3):
            await reads.next()
        followed.clear()
        rt.wakeups.notify("events")


async def test_a_failed_read_is_repeated(
    rt: Any, followed: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the last one."""
    monkeypatch.setattr(turns, "FAILED_SECONDS", 0.01)
    reads = Reads(DatabaseUnavailable("away"))
    async with asyncio.TaskGroup() as group:
        group.create_task(follow(rt, reads, followed))
        await reads.next()
        await reads.next()
        followed.clear()
        rt.wakeups.notify("events")
