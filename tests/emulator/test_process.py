"""The emulator as a process: it prints its address, and survives kills and restarts."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

LIMIT = 120  # seconds; a hanging request would take longer
HEADERS = {"authorization": "Bearer t"}
BODY = {"version": "a/b", "input": {"prompt": "[[emu:predict=3600]]"}}

Start = Callable[..., Awaitable[tuple[asyncio.subprocess.Process, str]]]


@pytest.fixture
async def start(_full_suite: None) -> AsyncGenerator[Start]:
    """Return a function that starts an emulator; running ones are killed at the end."""
    started: list[asyncio.subprocess.Process] = []

    async def run(*options: str) -> tuple[asyncio.subprocess.Process, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "fleek.emulator", "--port", "0", *options),
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), LIMIT)
        return process, line.decode().split()[-1]

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_created_predictions_survive_kill_9(start: Start, tmp_path: Path) -> None:
    """Their cost remains."""
    ledger = str(tmp_path / "ledger.jsonl")
    process, base_url = await start("--ledger", ledger, "--seed", "5")
    async with httpx2.AsyncClient(headers=HEADERS, timeout=LIMIT) as client:
        made = (await client.post(f"{base_url}/v1/predictions", json=BODY)).json()
        process.kill()
        await process.wait()

        _, base_url = await start("--ledger", ledger, "--delivery-port", "0")
        found = await client.get(f"{base_url}/v1/predictions/{made['id']}")

    assert found.json()["status"] in ("starting", "processing")
    assert found.json()["created_at"] == made["created_at"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
async def test_sigterm_stops_the_process(start: Start, number: signal.Signals) -> None:
    """At once, even with a hanging request."""
    process, base_url = await start()
    body = {"version": "a/b", "input": {"prompt": "[[emu:create_hang=600]]"}}
    async with httpx2.AsyncClient(headers=HEADERS, timeout=LIMIT) as client:
        hanging = asyncio.create_task(client.post(f"{base_url}/v1/predictions", json=body))
        await client.get(f"{base_url}/_emu/ledger")
        process.send_signal(number)

        code = await asyncio.wait_for(process.wait(), LIMIT)

        with pytest.raises(httpx2.TransportError):
            await hanging
    assert code == 0
