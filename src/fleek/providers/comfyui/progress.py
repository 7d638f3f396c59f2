"""The progress of runs, as the server tells it over a WebSocket while they are executed.

The server sends what it says of a run to the client that the run names. That client is the run's own id, so
any process that polls a run can listen, and two processes disturb each other only at the same run. Nothing but
progress depends on it: without a socket, a run ends as it does with one.

Source: ``server.py``, ``execution.py`` and ``comfy_execution/progress.py`` of
https://github.com/comfyanonymous/ComfyUI, 0.3.64.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import field
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

import structlog

from fleek.domain.job import PredictionId
from fleek.domain.values import dataclass
from fleek.outbound.addresses import UnsafeAddress
from fleek.outbound.client import CallFailed
from fleek.outbound.sockets import Sockets
from fleek.providers.comfyui.wire import Node
from fleek.providers.foreign_json import NotJson, parse_aside

MAX_SOCKETS: Final = 8  # a server executes one run at a time, unless it was extended
AGAIN_SECONDS: Final = 5.0  # until a lost socket is opened again
SILENT_SECONDS: Final = 60.0  # without a message, until a socket is taken for a lost one
KEPT: Final = 1000  # runs whose progress is remembered
MAX_NODES: Final = 2000  # of a message
NEARLY: Final = 0.99  # of a run that has not ended

log = structlog.get_logger(__name__)


class RunProgress:
    """How far a run is, from the messages about it.

    Args:
        key: The run's id.
        nodes: The workflow's nodes by their ids.
    """

    def __init__(self, key: PredictionId, nodes: Mapping[str, Node]) -> None:
        self._key = key
        self._nodes = nodes
        self._finished: set[str] = set()
        self._running: dict[str, float] = {}  # the share of each that is done
        self._begun: dict[str, None] = {}  # in their order
        self._current: str | None = None  # as named when a socket was opened
        self.progress: float | None = None
        """The share of the nodes that is done, which never decreases; None: it is not known yet."""

    @property
    def log(self) -> str | None:
        """A line for each node that has begun; None: they are not known yet.

        When a socket is opened in the middle of a run, the server names only the current node. It
        names those before it, in their order, with its next message, so until then there is a line
        only if the node needs none before it: the log of another process has them already.
        """
        begun = list(self._begun)
        if not begun and self._current is not None and not self._nodes[self._current].sources:
            begun = [self._current]
        return "".join(f"{self._nodes[node].name} (node {node})\n" for node in begun) or None

    def read(self, message: Any) -> None:
        """Take in a message; what is of another run or form is left out."""
        if not isinstance(message, dict) or not isinstance(data := message.get("data"), dict):
            return
        if data.get("prompt_id", self._key) != self._key:
            return
        match message.get("type"):
            case "progress_state":
                self._read_states(data.get("nodes"))
            case "progress":
                self._run(data.get("node"), _share(data))
            case "executing":
                self._execute(data.get("node"), in_order="prompt_id" in data)
            case "executed":
                self._finish(data.get("node"))
            case "execution_cached":
                nodes = data.get("nodes")
                for node in islice(nodes if isinstance(nodes, list) else (), MAX_NODES):
                    self._finish(node)
            case _:
                pass
        if self._finished or self._running:
            done = len(self._finished) + sum(self._running.values())
            self.progress = max(min(done / len(self._nodes), NEARLY), self.progress or 0.0)

    def _read_states(self, nodes: Any) -> None:
        for node, state in islice(nodes.items() if isinstance(nodes, dict) else (), MAX_NODES):
            if not isinstance(state, dict):
                continue
            if state.get("state") == "finished":
                self._begin(node)
                self._finish(node)
            elif state.get("state") == "running":
                self._run(node, _share(state))

    def _execute(self, node: Any, *, in_order: bool) -> None:
        """Begin a node: older servers say no more, so the previous one has ended.

        What a new socket receives first has no run's id, and is not in order.
        """
        if not self._known(node) or node in self._running:
            return
        if not in_order:
            self._current = node
            return
        for other in tuple(self._running):
            self._finish(other)
        self._run(node, 0.0)

    def _run(self, node: Any, share: float) -> None:
        if self._known(node):
            self._begin(node)
            self._finished.discard(node)
            self._running[node] = share

    def _finish(self, node: Any) -> None:
        if self._known(node):
            self._running.pop(node, None)
            self._finished.add(node)

    def _begin(self, node: Any) -> None:
        """Note that a node has begun, and so that all before it are done, most without a message.

        The results of those that an earlier run has executed are used again, of which the server
        tells before a socket is opened.
        """
        if not self._known(node) or node in self._begun:
            return
        self._begun[node] = None
        before = list(self._nodes[node].sources)
        while before:
            one = before.pop()
            if self._known(one) and one not in self._finished and one not in self._running:
                self._finished.add(one)
                before.extend(self._nodes[one].sources)
        self._finished.discard(node)

    def _known(self, node: Any) -> bool:
        """Whether it is a node of the workflow; others are made by these while they run."""
        return isinstance(node, str) and node in self._nodes


def _share(state: Mapping[str, Any]) -> float:
    value, most = state.get("value"), state.get("max")
    if not isinstance(value, int | float) or not isinstance(most, int | float) or not most > 0:
        return 0.0
    try:
        share = value / most
    except OverflowError:  # integers of any length
        return 0.0
    return min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0


@dataclass(slots=True)
class _Followed:
    """A run that is or was listened to."""

    progress: RunProgress
    task: asyncio.Task[None] | None = None
    again_at: float = 0.0  # when a lost socket may be opened again
    failed: bool = False


@dataclass
class ProgressSockets:
    """Listens to the runs that are executed now.

    Args:
        sockets: Opens WebSockets.
        base_url: The server's address.
        clock: Monotonic clock, in seconds.
        silent: How long a socket may be without a message, in seconds.
    """

    sockets: Sockets
    base_url: str
    clock: Callable[[], float] = time.monotonic
    silent: float = SILENT_SECONDS
    _runs: dict[PredictionId, _Followed] = field(default_factory=dict)

    def follow(self, key: PredictionId, nodes: Mapping[str, Node]) -> RunProgress:
        """Listen to a run that is executed, unless that is done already; returns its progress."""
        run = self._runs.get(key)
        if run is None:
            if len(self._runs) >= KEPT:
                self.forget(next(iter(self._runs)))
            run = self._runs[key] = _Followed(RunProgress(key, nodes))
        open_ones = sum(one.task is not None for one in self._runs.values())
        if run.task is None and open_ones < MAX_SOCKETS and self.clock() >= run.again_at:
            run.task = asyncio.create_task(self._listen(key, run))
        return run.progress

    def forget(self, key: PredictionId) -> RunProgress | None:
        """Stop listening to a run; returns how far it came, None: it was not listened to."""
        run = self._runs.pop(key, None)
        if run is None:
            return None
        if run.task is not None:
            run.task.cancel()
        return run.progress

    async def close(self) -> None:
        """Close all sockets."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for key in tuple(self._runs):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, key: PredictionId, run: _Followed) -> None:
        """Take in the messages about a run until its socket is lost.

        A silent one is closed, too. The server forgets an open socket when an older one of the same
        run is closed, as that of a process which stood still. And nobody asks for a run any more that
        another process has taken over.
        """
        address = f"{self.base_url}/ws?{urlencode({'clientId': key})}"
        reason = "the server has closed it"
        try:
            async with self.sockets.listen(address) as texts:
                await self._read(texts, run.progress)
        except TimeoutError:
            return  # most often, a node says nothing until it ends
        except (CallFailed, UnsafeAddress) as error:
            reason = str(error)
        finally:
            run.task, run.again_at = None, self.clock() + AGAIN_SECONDS
        if not run.failed:
            run.failed = True
            log.info("comfyui_progress_lost", prediction_id=key, reason=reason)

    async def _read(self, texts: AsyncIterator[str], progress: RunProgress) -> None:
        """Take in messages until there are no more.

        Raises:
            TimeoutError: None came for too long.
        """
        time_of = asyncio.get_running_loop().time
        async with asyncio.timeout(self.silent) as silence:
            async for text in texts:
                await _take_in(progress, text)
                silence.reschedule(time_of() + self.silent)


async def _take_in(progress: RunProgress, text: str) -> None:
    try:
        progress.read(await parse_aside(text.encode("utf-8", "replace")))
    except NotJson:
        return
