"""The rate limit with an emulated Replicate and a whole worker, in real time."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from fakes import a_request
from fleek.bootstrap import open_runtime
from fleek.domain.job import Job, Status
from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.settings import Settings
from fleek.store.counters import count_jobs
from fleek.worker import work

PER_MINUTE = 1200
SECONDS = 60  # the longest that anything here may take


@pytest.fixture
async def emulator() -> AsyncGenerator[Emulator]:
    """Run an emulator with the limits that the worker has as settings."""
    plan = Plan(queue_seconds=0, predict_seconds=0.05, creates_per_minute=PER_MINUTE)
    async with serve(plan) as emulator:
        yield emulator


@pytest.fixture
async def worker(
    emulator: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Runtime]:
    """Run a worker for this account."""
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_pace")
    monkeypatch.setenv("REPLICATE_BASE_URL", emulator.api_url)
    monkeypatch.setenv("REPLICATE_CREATES_PER_MINUTE", str(PER_MINUTE))
    async with open_runtime(settings.model_copy(update={"providers": ("replicate",)})) as rt:
        stop = asyncio.Event()
        working = asyncio.create_task(work(rt, stop))
        yield rt
        stop.set()
        await working


async def completed(rt: Runtime, made: list[Job]) -> None:
    """Wait until all jobs have completed."""
    async with asyncio.timeout(SECONDS):
        while (await count_jobs(rt.db, now=rt.now())).by_status[Status.COMPLETED] < len(made):
            await asyncio.sleep(0.02)


def creates(emulator: Emulator, status: int) -> list[float]:
    """Return the times of create requests with this status."""
    rows = emulator.ledger.rows("request")
    asked = [row for row in rows if row["method"] == "POST" and row["status"] == status]
    return sorted(row["t"] for row in asked)


@pytest.mark.usefixtures("_full_suite")
async def test_many_jobs_start_at_the_rate_of_the_account(
    worker: Runtime, emulator: Emulator
) -> None:
    """1,200 a minute are 20 a second; nothing is refused, so nothing is requested twice."""
    began = emulator.account.now()
    made = await asyncio.gather(*(submit(worker, a_request()) for _ in range(40)))

    await completed(worker, made)

    times = creates(emulator, 201)
    assert len(times) == len(made)
    assert creates(emulator, 429) == []
    assert times[-1] - began > 1  # at most 20 at once: the rest needs a second


@pytest.mark.usefixtures("_full_suite")
async def test_a_rate_limited_create_pauses_all_others(
    worker: Runtime, emulator: Emulator
) -> None:
    """During the Retry-After of a second no create is sent, and no job fails."""
    first = await submit(worker, a_request("A cat [[emu:create_429=1*2]]", priority=9))
    async with asyncio.timeout(SECONDS):
        while not (accounts := worker.pauses.all()):
            await asyncio.sleep(0.01)
    made = await asyncio.gather(*(submit(worker, a_request()) for _ in range(15)))

    await completed(worker, [first, *made])

    refused, created = creates(emulator, 429), creates(emulator, 201)
    assert (len(refused), len(created)) == (2, 16)
    (account,) = accounts
    assert account.paused_until is not None
    assert min(refused[1], *created) >= account.paused_until.timestamp()
