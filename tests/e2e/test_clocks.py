"""Processes with wrong wall clocks: from the start, after a crash, or stepping while they run."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from backing_services import Postgres
from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve
from service_process import PATIENCE, SMALL, Service, running, running_on

STARTS = 10
HOUR = 3600


@pytest.fixture
async def emulator(_full_suite: None) -> AsyncGenerator[Emulator]:
    """Run an emulator with predictions of a second."""
    async with serve(Plan(queue_seconds=0, predict_seconds=1)) as running_one:
        yield running_one


def set_clock(folder: Path, seconds: float) -> dict[str, str]:
    """Shift the wall clock of all processes with these settings, running ones included."""
    path, fresh = folder / "shift", folder / "shift.new"
    fresh.write_text(str(seconds))
    fresh.replace(path)
    return {"FLEEK_CLOCK_FILE": str(path)}


def settings_for(emulator: Emulator) -> dict[str, str]:
    """Return the settings of a service that uses the emulator and polls often."""
    return {
        "PROVIDERS": "replicate",
        "REPLICATE_API_TOKEN": "r8_emulator_test_0123456789abcdefghij",
        "REPLICATE_BASE_URL": emulator.api_url,
        "RECONCILE_SECONDS": "4",
        "HEARTBEAT_SECONDS": "1",
        "WORKER_CONCURRENCY": str(STARTS),
    }


async def in_thread(work: Callable[..., Any], *args: Any, **fields: Any) -> Any:
    """Run blocking code in a thread, while the emulator runs in this loop."""
    return await asyncio.to_thread(lambda: work(*args, **fields))


@pytest.mark.parametrize(
    ("database", "shift"),
    [("sqlite", -HOUR), ("postgresql", 90), ("postgresql", HOUR)],
    indirect=["database"],
    ids=str,
)
async def test_a_crash_and_a_wrong_clock_create_nothing_twice(
    tmp_path: Path, emulator: Emulator, database: str, postgres: Postgres, shift: float
) -> None:
    """Ten starts are in progress, the process is killed, and the clock of the next one is wrong."""
    settings = settings_for(emulator)
    opened = (
        running(tmp_path, **settings)
        if database == "sqlite"
        else running_on(postgres, tmp_path, **settings)
    )
    with opened as service:
        first = await in_thread(service.serve)
        for number in range(STARTS):
            await in_thread(service.submit, f"[[emu:create_then_delay=600]] {number}")
        async with asyncio.timeout(PATIENCE):
            while len(emulator.account.predictions) < STARTS:
                await asyncio.sleep(0.02)
        await in_thread(first.kill)

        await in_thread(service.serve, **set_clock(tmp_path, shift))
        ended = await in_thread(service.settle, seconds=PATIENCE)

    assert ended["completed"] == STARTS
    assert len(emulator.account.predictions) == STARTS


async def test_a_clock_step_cancels_and_delays_nothing(tmp_path: Path, emulator: Emulator) -> None:
    """An hour forward and an hour back, with running predictions and new jobs."""
    emulator.replan(predict_seconds=4)
    ended: dict[str, int] = {}
    shifted = set_clock(tmp_path, 0)
    with running(tmp_path, **settings_for(emulator), **shifted) as service:
        await in_thread(service.serve)
        for step in (HOUR, -HOUR, 0):
            for number in range(3):
                await in_thread(service.submit, f"{step} {number}")
            async with asyncio.timeout(PATIENCE):
                while not any(
                    not one.done(emulator.account.clock.now())
                    for one in emulator.account.predictions
                ):
                    await asyncio.sleep(0.02)
            set_clock(tmp_path, step)
            ended = await in_thread(service.settle, seconds=PATIENCE)

    assert ended["completed"] == 9
    assert len(emulator.account.predictions) == 9


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
async def test_two_processes_with_clocks_an_hour_apart_work_together(
    tmp_path: Path, database: str, postgres: Postgres
) -> None:
    """Each starts jobs accepted by the other at once, and neither expires the other."""
    quick = {"REPLICATE_MOCK_DELAY_MIN": "0.2", "REPLICATE_MOCK_DELAY_MAX": "0.2"}
    settings = {**quick, "HEARTBEAT_SECONDS": "1"}
    opened = (
        running(tmp_path, **settings)
        if database == "sqlite"
        else running_on(postgres, tmp_path, **settings)
    )
    with opened as service:
        await in_thread(_work_together, service, tmp_path)

        assert service.rows("SELECT count(*) FROM workers") == [(2,)]
        assert service.rows("SELECT count(*) FROM jobs WHERE status = 'completed'") == [(3,)]


def _work_together(service: Service, folder: Path) -> None:
    service.serve("--no-worker", **set_clock(folder, HOUR))
    ahead = service.start("worker", **set_clock(folder, HOUR))
    ahead.await_log("worker_registered")
    service.worker()
    for number in range(3):
        service.submit(f"job {number}", parameters=SMALL)
    service.settle(seconds=PATIENCE)
