"""The progress of runs over a WebSocket, which nothing else depends on."""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
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
from fleek.providers.comfyui.progress import (
    AGAIN_SECONDS,
    SILENT_SECONDS,
    ProgressSockets,
    RunProgress,
)
from fleek.providers.comfyui.provider import ComfyUIProvider
from fleek.providers.comfyui.wire import Node
from fleek.providers.comfyui.workflows import read_folder
from fleek.providers.http import open_api
from providers.comfyui.conftest import Ticks, a_job, an_attempt

VAST: Final = 10**400  # an integer that no float can be
KEY: Final = PredictionId("0192f0c1-2345-7abc-8def-0123456789ab")
NODES: Final = {
    "3": Node("KSampler", ("4",)),
    "4": Node("Load"),
    "8": Node("Decode", ("3", "4")),
    "9": Node("Save", ("8",)),
}
LONG: Final = "[[emu:predict=1000]]"
FAULTS: Final = ["refused", "dropped", "closed", "silent", "odd*all", "huge"]


@asynccontextmanager
async def a_process(
    emulator: Emulator, ticks: Ticks, folder: Path, *, silent: float = SILENT_SECONDS
) -> AsyncGenerator[ComfyUIProvider]:
    """Yield a provider that listens to its runs, with connections of its own."""
    url = emulator.comfyui_url
    policy = Policy(patterns=(), named=(AllowedHost.of(url),))
    connections = Connections(policy)
    api, content = open_api(url), Client(policy, connections)
    sockets = Sockets(policy, connections, most=1_000_000)
    progress = ProgressSockets(sockets, url, clock=ticks, silent=silent)
    yield ComfyUIProvider(
        api,
        content,
        base_url=url,
        workflows=read_folder(workflow_folder(folder)),
        progress=progress,
        clock=ticks,
    )
    await progress.close()
    await api.close()
    await content.close()


@pytest.fixture
async def following(
    emulator: Emulator, ticks: Ticks, tmp_path: Path
) -> AsyncGenerator[ComfyUIProvider]:
    """Yield a provider that listens to its runs."""
    async with a_process(emulator, ticks, tmp_path) as provider:
        yield provider


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

    assert first.log == "CheckpointLoaderSimple (node 4)\n"
    assert later.progress == pytest.approx(0.6, abs=0.05)
    assert (later.log or "").splitlines() == [
        "CheckpointLoaderSimple (node 4)",
        "Positive (node 6)",
        "CLIPTextEncode (node 7)",
        "EmptyLatentImage (node 5)",
        "KSampler (node 3)",
    ]


async def test_another_process_goes_on_where_one_ended(
    emulator: Emulator, ticks: Ticks, tmp_path: Path
) -> None:
    """The server tells it the current node alone at first, which is neither a step back nor a new log."""
    job = a_job(LONG)
    async with a_process(emulator, ticks, tmp_path) as first:
        key = (await first.start(job, an_attempt(job))).id
        await seen_when(first, key, lambda seen: seen.log is not None)
        emulator.account.clock.advance(600)
        before = await seen_when(first, key, lambda seen: (seen.progress or 0) > 0.5)

    async with a_process(emulator, ticks, tmp_path) as second:
        await second.poll([key])
        await told(emulator, 2)
        at_once = (await second.poll([key]))[key]
        emulator.account.clock.advance(300)
        later = await seen_when(second, key, lambda seen: seen.log is not None)

    assert (at_once.progress, at_once.log) == (None, None)
    assert (later.progress or 0) > (before.progress or 0)
    assert (later.log or "").startswith(before.log or "nothing")


async def told(emulator: Emulator, times: int) -> None:
    """Return when so many sockets were opened, and the last one has been told the current node."""
    await opened(emulator, times)
    async with asyncio.timeout(60):
        while emulator.ledger.rows("socket")[-1]["sent"] < 2:
            await asyncio.sleep(0.01)  # the emulator has no event for it


async def test_its_end_has_the_log(following: ComfyUIProvider, emulator: Emulator) -> None:
    """And it is no longer listened to."""
    job = a_job(LONG)
    key = (await following.start(job, an_attempt(job))).id
    await seen_when(following, key, lambda seen: seen.log is not None)

    emulator.account.release(emulator.account.by_id[key])
    ended = (await following.poll([key]))[key]

    assert isinstance(ended.outcome, Succeeded)
    assert (ended.log or "").startswith("CheckpointLoaderSimple (node 4)\n")


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
    emulator.account.clock.advance(60)  # two steps: the server is silent between them

    async with asyncio.timeout(60):
        while emulator.ledger.counts["socket"] < 2:
            ticks.seconds += AGAIN_SECONDS
            await following.poll([key])
    seen = await seen_when(following, key, lambda seen: seen.log is not None)

    assert seen.log == "CheckpointLoaderSimple (node 4)\n"


async def test_a_silent_socket_is_opened_again(
    emulator: Emulator, ticks: Ticks, tmp_path: Path
) -> None:
    """The server forgets a socket if another one of the same run is closed after it was opened."""
    async with a_process(emulator, ticks, tmp_path, silent=0.05) as provider:
        job = a_job(f"{LONG}[[emu:socket_silent*1]]")
        key = (await provider.start(job, an_attempt(job))).id

        def later(seen: Prediction) -> bool:
            ticks.seconds += AGAIN_SECONDS
            return seen.log is not None

        seen = await seen_when(provider, key, later)

    assert seen.log == "CheckpointLoaderSimple (node 4)\n"
    assert emulator.ledger.rows("socket")[0]["faults"] == ["socket_silent"]


async def test_a_run_that_is_not_polled_is_not_listened_to(
    emulator: Emulator, ticks: Ticks, tmp_path: Path
) -> None:
    """Or the sockets of runs that another process has taken over would leave none for its own."""
    async with a_process(emulator, ticks, tmp_path, silent=0.05) as provider:
        job = a_job(LONG)
        key = (await provider.start(job, an_attempt(job))).id
        await seen_when(provider, key, lambda seen: seen.log is not None)

        async with asyncio.timeout(60):
            while emulator.ledger.rows("socket")[0].get("closed") is None:
                await asyncio.sleep(0.01)  # the emulator has no event for it

    assert emulator.ledger.counts["socket"] == 1


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
    run = RunProgress(KEY, NODES)
    shares: list[float | None] = [run.progress]

    for kind, data in (
        ("execution_cached", {"nodes": ["4", "77"], "prompt_id": KEY}),
        ("executing", {"node": "3", "prompt_id": KEY}),
        ("progress", {"node": "3", "value": 10, "max": 20, "prompt_id": KEY}),
        ("executing", {"node": "9", "prompt_id": KEY}),
        ("executing", {"node": None, "prompt_id": KEY}),
    ):
        run.read({"type": kind, "data": data})
        shares.append(run.progress)

    assert shares == [
        None,
        *(pytest.approx(n) for n in (1 / 4, 1 / 4, 3 / 8, 3 / 4, 3 / 4)),
    ]
    assert run.log == "KSampler (node 3)\nSave (node 9)\n"


def test_nodes_whose_results_are_used_again_are_done() -> None:
    """The server names them before a socket is opened, or not at all."""
    run = RunProgress(KEY, NODES)
    state = {"state": "running", "value": 1, "max": 2}
    run.read({"type": "progress_state", "data": {"prompt_id": KEY, "nodes": {"8": state}}})

    assert run.progress == pytest.approx((2 + 0.5) / 4)
    assert run.log == "Decode (node 8)\n"


def test_the_current_node_of_a_new_socket_is_not_yet_in_its_place() -> None:
    """It has no run's id; the next message has the nodes before it, in the order of the server."""
    run, began = RunProgress(KEY, NODES), {"state": "finished", "value": 1, "max": 1}
    seen = []
    for kind, data in (
        ("executing", {"node": "8"}),
        ("executing", {"node": "4"}),
        ("progress_state", {"prompt_id": KEY, "nodes": {"3": began, "4": began}}),
        ("executing", {"node": "8"}),
    ):
        run.read({"type": kind, "data": data})
        seen.append((run.progress, run.log))

    both = (0.5, "KSampler (node 3)\nLoad (node 4)\n")
    assert seen == [(None, None), (None, "Load (node 4)\n"), both, both]


def test_a_workflow_that_names_itself_ends() -> None:
    """It is another's text, which the server would have refused."""
    run = RunProgress(KEY, {"1": Node("A", ("2", "none")), "2": Node("B", ("1",))})
    run.read({"type": "progress", "data": {"node": "1", "value": 1, "max": 2, "prompt_id": KEY}})

    assert run.progress == pytest.approx((1 + 0.5) / 2)


@pytest.mark.parametrize(
    ("value", "most"),
    [(math.nan, 2), (1, math.inf), (math.inf, math.inf), (VAST, 2), (1, VAST), (-VAST, 1.5)],
    ids=["nan", "infinite", "both infinite", "vast", "of vast", "negative"],
)
def test_a_share_that_is_no_number_is_none(value: float, most: float) -> None:
    """Nodes of others may say anything, and the history of a job takes finite numbers alone."""
    run = RunProgress(KEY, NODES)
    data = {"node": "3", "value": value, "max": most, "prompt_id": KEY}

    run.read({"type": "progress", "data": data})

    assert run.progress is not None
    assert 0 <= run.progress <= 1


def test_progress_never_decreases() -> None:
    """A node that is executed again would set it back."""
    run = RunProgress(KEY, NODES)
    for value in (15, 5):
        data = {"node": "3", "value": value, "max": 20, "prompt_id": KEY}
        run.read({"type": "progress", "data": data})

    assert run.progress == pytest.approx((1 + 0.75) / 4)


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
    run = RunProgress(KEY, NODES)

    run.read(json.loads(json.dumps(message)))

    assert (run.progress, run.log) == (None, None)
