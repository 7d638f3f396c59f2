"""Ask as fast as the answers come, on a few connections that stay open; a process of its own.

``python -m benchmarks.load PORT CONNECTIONS SECONDS NUMBER < REQUESTS``: the requests are lines of
base64, sent in turn, over and over. It ends after so many seconds or answers, whichever is first
(0: no such end), with an answer for each connection at least, and prints one line of JSON.
"""

import asyncio
import base64
import json
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import uvloop

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"


class Caller(asyncio.Protocol):
    """One connection: sends the next request when the answer to the latest is complete."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._buffer = bytearray()
        self._sent = 0.0

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        self._buffer += data
        end = self._buffer.find(HEAD_END)
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        start = head.find(LENGTH) + len(LENGTH)
        length = int(head[start:].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + len(HEAD_END) + length:
            return
        self._load.note(time.perf_counter() - self._sent, well=head[9:10] == b"2")
        self._buffer.clear()
        self._ask()

    def connection_lost(self, _error: Exception | None) -> None:
        """Count it, unless we have closed it."""
        if not self._load.over.is_set():
            self._load.bad += 1
            self._load.over.set()

    def _ask(self) -> None:
        if self._load.may_ask():
            self._sent = time.perf_counter()
            self._transport.write(next(self._load.requests))


class Load:
    """What all connections share."""

    def __init__(self, requests: Sequence[bytes], *, number: int) -> None:
        self.requests = cycle(requests)
        self.over = asyncio.Event()
        self.took: list[float] = []  # seconds, one per answer
        self.bad = 0
        self._left = number
        self._open = number  # answers still to come
        self._endless = number == 0

    def may_ask(self) -> bool:
        """Whether another request may be sent."""
        self._left -= 1
        return self._endless or self._left >= 0

    def note(self, seconds: float, *, well: bool) -> None:
        """Take note of an answer."""
        self.took.append(seconds)
        self.bad += not well
        self._open -= 1
        if self._open == 0 and not self._endless:
            self.over.set()

    def end_after(self, answers: int) -> None:
        """End as soon as there are so many answers in all: there may be none on a busy machine."""
        self._endless, self._open = False, answers - len(self.took)
        if self._open <= 0:
            self.over.set()


async def run(port: int, connections: int, seconds: float, number: int) -> dict[str, float]:
    """Ask, and return the figures."""
    requests = [base64.b64decode(line) for line in sys.stdin]
    load = Load(requests, number=number)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    opened = [
        await loop.create_connection(lambda: Caller(load), "127.0.0.1", port)
        for _ in range(connections)
    ]
    try:
        async with asyncio.timeout(seconds or None):
            await load.over.wait()
    except TimeoutError:
        load.end_after(connections)
        await load.over.wait()
    lasted = time.perf_counter() - began
    for transport, _ in opened:
        transport.abort()
    took = sorted(load.took)
    return {
        "per_second": len(took) / lasted,
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[len(took) * 99 // 100] * 1000,
        "answers": len(took),
        "bad": load.bad,
    }


if __name__ == "__main__":
    port, connections, seconds, number = sys.argv[1:]
    asked = run(int(port), int(connections), float(seconds), int(number))
    print(json.dumps(uvloop.run(asked)))
