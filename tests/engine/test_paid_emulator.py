"""Paid results with an emulated Replicate and a whole worker, in real time."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from fakes import a_request
from fleek.bootstrap import open_runtime
from fleek.domain.errors import Gone
from fleek.domain.job import Job, JobId, Status
from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve
from fleek.engine.recollect import recollect
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.settings import Settings
from fleek.store import jobs
from fleek.worker import work

SECONDS = 120  # the longest that anything here may take


@pytest.fixture
async def emulator() -> AsyncGenerator[Emulator]:
    """Run an emulator with quick predictions."""
    async with serve(Plan(queue_seconds=0, predict_seconds=0.05)) as emulator:
        yield emulator


@pytest.fixture
async def worker(
    emulator: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Runtime]:
    """Run a worker for this account with short waits."""
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_paid")
    monkeypatch.setenv("REPLICATE_BASE_URL", emulator.api_url)
    changed = settings.model_copy(update={"providers": ("replicate",)})
    async with open_runtime(changed) as rt:
        stop = asyncio.Event()
        working = asyncio.create_task(work(rt, stop))
        yield rt
        stop.set()
        await working


async def ended(rt: Runtime, job_id: JobId) -> Job:
    """Wait for a job's end."""
    async with asyncio.timeout(SECONDS):
        while not (job := await jobs.get_any_tenant(rt.db, job_id)).terminal:
            await asyncio.sleep(0.02)
    return job


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize("fault", ["file_gone=404*2", "file_5xx=503*2", "file_reset*2"])
async def test_two_failures_of_the_output_host_lose_nothing(
    worker: Runtime, emulator: Emulator, fault: str
) -> None:
    """The provider is polled, and reports that the result is there."""
    job = await submit(worker, a_request(f"[[emu:{fault}]]"))

    done = await ended(worker, job.id)

    assert (done.status, done.attempt) == (Status.COMPLETED, 1)
    assert len(emulator.account.by_id) == 1


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_job_with_a_removed_result_fails_within_seconds(
    worker: Runtime, emulator: Emulator
) -> None:
    """Collecting it again does not change that."""
    job = await submit(worker, a_request("[[emu:file_gone=404]]"))
    async with asyncio.timeout(SECONDS):
        while not (await jobs.get_any_tenant(worker.db, job.id)).collects:
            await asyncio.sleep(0.02)

    emulator.account.plan.rates["get_data_removed"] = 1.0
    failed = await ended(worker, job.id)

    assert failed.error is not None
    assert (failed.status, failed.error.code) == (Status.FAILED, "output_expired")
    with pytest.raises(Gone):
        await recollect(worker, job.id, tenant_id="default")
