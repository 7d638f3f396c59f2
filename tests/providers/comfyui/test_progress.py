"""The progress of runs over a WebSocket, which nothing else depends on."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from comfyworkflows import workflow_folder
from fleek.domain.job import PredictionId
from fleek.emulator.server import Emulator
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import Client
from fleek.outbound.connections import Connections
from fleek.outbound.sockets import Sockets
from fleek.providers.base import Prediction, Succeeded
from fleek.providers.comfyui.progress import AGAIN_SECONDS, ProgressSockets, RunProgress
from fleek.providers.comfyui.provider import ComfyUIProvider
from fleek.providers.comfyui.workflows import read_folder
from fleek.providers.http import open_api
from providers.comfyui.conftest import Ticks, a_job, an_attempt

KEY: Final = PredictionId("0192f0c1-2345-7abc-8def-0123456789ab")
NAMES: Final = {"3": "KSampler", "4": "Load", "9": "Save"}
LONG: Final = "[[emu:predict=1000]]"
FAULTS: Final = ["refused", "dropped", "closed", "silent", "odd*all", "huge"]


@pytest.fixture
async def following(
    emulator: Emulator, ticks: Ticks, tmp_path: Path
) -> AsyncGenerator[ComfyUIProvider]:
    """Yield a provider that listens to its runs."""
    url = emulator.comfyui_url
    policy = Policy(patterns=(), named=(AllowedHost.of(url),))
    connections = Connections(policy)
    api, content = open_api(url), Client(policy, connections)
    progress = ProgressSockets(Sockets(policy, connections, most=1_000_000), url, clock=ticks)
    yield ComfyUIProvider(
        api,
        content,
        base_url=url,
        workflows=read_folder(workflow_folder(tmp_path)),
        progress=progress,
        clock=ticks,
    )
    await progress.close()
    await api.close()
    await content.close()


async def seen_when(
    provider: ComfyUIProvider, key: PredictionId, wanted: Callable[[Prediction], bool]
) -> Prediction:
    """Poll a run until it looks as wanted."""
    async with asyncio.timeout(60):
        while not wanted(seen := (await provider.poll([key]))[key]):
            await asyncio.sleep(0.01)  # messages come over a socket of their own
    return seen


async def test_a_run_says_how_far_it_is_and_in_which_node(
    following: ComfyUIProvider, emulator: Emulator
) -> None:
    """The share of its nodes, and a line of its log for each that has begun."""
    job = a_job(LONG)
    key = (await following.start(job, an_attempt(job))).id
    first = await seen_when(following, key, lambda seen: seen.log is not None)

    emulator.account.clock.advance(600)
    later = await seen_when(following, key, lambda seen: (seen.progress or 0) > 0.5)

    assert first.log == "KSampler (node 3)\n"
    assert first.progress is not None
    assert first.progress < 0.2
    assert later.progress == pytest.approx(0.6, abs=0.05)
    assert (later.log or "").splitlines()[:4] == [
        "KSampler (node 3)",
        "CheckpointLoaderSimple (node 4)",
        "EmptyLatentImage (node 5)",
        "Positive (node 6)",
    ]


async def test_its_end_has_the_log(following: ComfyUIProvider, emulator: Emulator) -> None:
    """And it is no longer listened to."""
    job = a_job(LONG)
    key = (await following.start(job, an_attempt(job))).id
    await seen_when(following, key, lambda seen: seen.log is not None)

    emulator.account.release(emulator.account.by_id[key])
    ended = (await following.poll([key]))[key]

    assert isinstance(ended.outcome, Succeeded)
    assert (ended.log or "").startswith("KSampler (node 3)\n")


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_run_ends_as_well_without_its_socket(
    following: ComfyUIProvider, emulator: Emulator, fault: str
) -> None:
    """Whatever the socket does, the run is polled, and succeeds."""
    job = a_job(f"{LONG}[[emu:socket_{fault}]]")
    key = (await following.start(job, an_attempt(job))).id
    running = (await following.poll([key]))[key]
    await opened(emulator, 1)

    emulator.account.release(emulator.account.by_id[key])
    ended = (await following.poll([key]))[key]

    assert running.outcome is None
    assert isinstance(ended.outcome, Succeeded)
    assert emulator.ledger.rows("socket")[0]["faults"] == [f"socket_{fault.partition('*')[0]}"]


async def opened(emulator: Emulator, times: int) -> None:
    """Return when so many sockets were opened."""
    async with asyncio.timeout(60):
        while emulator.ledger.counts["socket"] < times:
            await asyncio.sleep(0.01)  # the emulator has no event for it


@pytest.mark.parametrize("fault", ["refused", "dropped", "closed"])
async def test_a_lost_socket_is_opened_again(
    following: ComfyUIProvider, emulator: Emulator, ticks: Ticks, fault: str
) -> None:
    """After a pause; what was known stays known."""
    job = a_job(f"{LONG}[[emu:socket_{fault}]]")
    key = (await following.start(job, an_attempt(job))).id
    await following.poll([key])
    await opened(emulator, 1)

    async with asyncio.timeout(60):
        while emulator.ledger.counts["socket"] < 2:
            ticks.seconds += AGAIN_SECONDS
            await following.poll([key])
    seen = await seen_when(following, key, lambda seen: seen.log is not None)

    assert seen.log == "KSampler (node 3)\n"


async def test_only_a_run_that_is_executed_is_listened_to(
    following: ComfyUIProvider, emulator: Emulator
) -> None:
    """One that waits has nothing to say."""
    job = a_job("[[emu:queue=60]]")
    key = (await following.start(job, an_attempt(job))).id

    seen = await following.poll([key])

    assert seen[key] == Prediction(id=key)
    assert emulator.ledger.rows("socket") == []


def test_older_servers_name_each_node_as_it_begins() -> None:
    """Before ``progress_state``, there were these messages; the nodes before it have ended."""
    run = RunProgress(KEY, NAMES)
    shares: list[float | None] = [run.progress]

    for kind, data in (
        ("execution_cached", {"nodes": ["4", "77"], "prompt_id": KEY}),
        ("executing", {"node": "3", "prompt_id": KEY}),
        ("progress", {"node": "3", "value": 10, "max": 20, "prompt_id": KEY}),
        ("executing", {"node": "9"}),
        ("executing", {"node": None, "prompt_id": KEY}),
    ):
        run.read({"type": kind, "data": data})
        shares.append(run.progress)

    assert shares == [
        None,
        *(pytest.approx(n) for n in (1 / 3, 1 / 3, 0.5, 2 / 3, 2 / 3)),
    ]
    assert run.log == "KSampler (node 3)\nSave (node 9)\n"


def test_progress_never_decreases() -> None:
    """A node that is executed again would set it back."""
    run = RunProgress(KEY, NAMES)
    for value in (15, 5):
        data = {"node": "3", "value": value, "max": 20, "prompt_id": KEY}
        run.read({"type": "progress", "data": data})

    assert run.progress == pytest.approx(0.25)


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        {"type": "progress_state", "data": None},
        {"type": "progress_state", "data": {"prompt_id": "another", "nodes": {"3": {}}}},
        {"type": "progress_state", "data": {"nodes": {"3": 5, "x": {"state": "running"}}}},
        {"type": "progress", "data": {"node": ["3"], "value": "x", "max": 0}},
        {"type": "execution_cached", "data": {"nodes": {"3": 1}}},
        {"type": ["executing"], "data": {"node": "3"}},
    ],
)
def test_other_messages_are_left_out(message: Any) -> None:
    """They may be of another run, of a plugin, or wrong."""
    run = RunProgress(KEY, NAMES)

    run.read(json.loads(json.dumps(message)))

    assert (run.progress, run.log) == (None, None)
