"""The WebSocket of a ComfyUI server: what it says of the run that is executed, to its client."""

import asyncio
import json
import math
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from fleek.emulator.account import Account
from fleek.emulator.comfyui.representation import NAME
from fleek.emulator.plan import Faults
from fleek.emulator.predictions import Prediction

STEPS: Final = 5  # messages of each node
ODD: Final = (
    "{",
    "null",
    "[]",
    '{"type":"progress_state"}',
    '{"type":"progress","data":{"max":0}}',
)

Messages = AsyncGenerator[tuple[str, dict[str, Any]]]
"""Kinds and data."""


async def send_progress(socket: WebSocket) -> None:
    """Send messages until the client closes the socket, and enter it in the ledger."""
    account: Account = socket.app.state.account
    client = socket.query_params.get("clientId") or uuid.uuid4().hex
    prediction = _run_of(account, client)
    faults = account.sampler.draw(
        account.plan,
        "socket",
        subject=client,
        markers=None if prediction is None else prediction.markers,
    )
    row = account.ledger.add("socket", t=account.now(), client=client, faults=[*faults], sent=0)
    if "socket_refused" in faults:
        await socket.close()
        return
    await socket.accept()
    messages = _messages(account, prediction, client)
    tasks = (
        asyncio.create_task(_until_closed(socket)),
        asyncio.create_task(_send(socket, messages, faults, row)),
    )
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if "socket_dropped" not in faults:  # else the connection ends with this call
            await tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        row["closed"] = account.now()


async def _until_closed(socket: WebSocket) -> None:
    with suppress(WebSocketDisconnect):
        while True:
            await socket.receive_text()


def _run_of(account: Account, client: str) -> Prediction | None:
    found = (one for one in reversed(account.predictions) if one.dialect == NAME)
    return next((one for one in found if one.input["extra_data"].get("client_id") == client), None)


async def _send(
    socket: WebSocket, messages: Messages, faults: Faults, row: dict[str, Any]
) -> None:
    if "socket_silent" in faults:
        return
    if "socket_odd" in faults:
        for text in ODD:
            await socket.send_text(text)
    if "socket_huge" in faults:
        await socket.send_text("x" * int(float(faults["socket_huge"]) * 1_000_000))
    async with aclosing(messages):
        async for kind, data in messages:
            if row["sent"] >= float(faults.get("socket_closed", math.inf)):
                await socket.close()
                return
            if row["sent"] >= float(faults.get("socket_dropped", math.inf)):
                return
            await socket.send_text(json.dumps({"type": kind, "data": data}))
            row["sent"] += 1


async def _messages(account: Account, prediction: Prediction | None, client: str) -> Messages:
    """Yield what the server says: each node of a run as it begins, and its steps.

    In the middle of a run, a new socket is told the current node alone, and no more until the next step.
    """
    remaining = sum(not one.done(account.now()) for one in account.predictions)
    yield "status", {"status": {"exec_info": {"queue_remaining": remaining}}, "sid": client}
    if prediction is None:
        return
    nodes = _in_order(prediction.input["workflow"])
    first, steps = 0, len(nodes) * STEPS
    if prediction.fraction(account.now()) > 0:
        current = _step(account, prediction, steps)
        yield "executing", {"node": nodes[current // STEPS]}
        first = current + 1
    for step in range(first, steps):
        await account.clock.wait(partial(_instant, prediction, step / steps))
        if prediction.done(account.now()):
            break
        yield (
            "progress_state",
            {"prompt_id": prediction.id, "nodes": _states(prediction, nodes, step)},
        )
        if step % STEPS == 0:
            node = nodes[step // STEPS]
            yield "executing", {"node": node, "display_node": node, "prompt_id": prediction.id}
    await account.clock.wait(lambda: prediction.ended_at)
    yield "executing", {"node": None, "prompt_id": prediction.id}


def _in_order(workflow: dict[str, Any]) -> list[str]:
    """Return the nodes in the order in which they are executed: each after those that it uses."""
    ordered: dict[str, None] = {}
    for node in sorted(workflow):
        above = [node]
        while above:
            missing = [
                one for one in _sources(workflow, above[-1]) if one not in (*ordered, *above)
            ]
            if missing:
                above.append(missing[0])
            else:
                ordered.setdefault(above.pop())
    return list(ordered)


def _sources(workflow: dict[str, Any], node: str) -> list[str]:
    values = workflow[node].get("inputs", {}).values()
    named = [value[0] for value in values if isinstance(value, list) and len(value) == 2]
    return [one for one in named if one in workflow]


def _step(account: Account, prediction: Prediction, steps: int) -> int:
    return min(int(prediction.fraction(account.now()) * steps), steps - 1)


def _instant(prediction: Prediction, share: float) -> float:
    """Return when a run has come so far, or ended."""
    return min(prediction.started_at + share * prediction.work, prediction.ended_at)


def _states(prediction: Prediction, nodes: list[str], step: int) -> dict[str, Any]:
    """Return the states of the nodes that have begun."""
    current, done = divmod(step, STEPS)
    return {
        node: {
            "value": done if number == current else STEPS,
            "max": STEPS,
            "state": "running" if number == current else "finished",
            "node_id": node,
            "prompt_id": prediction.id,
            "display_node_id": node,
            "parent_node_id": None,
            "real_node_id": node,
        }
        for number, node in enumerate(nodes[: current + 1])
    }
