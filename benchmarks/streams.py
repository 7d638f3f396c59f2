"""What event streams cost a process: `python -m benchmarks.streams`.

Streams are opened by another process: on jobs of their own, or all on the stream of all jobs. Then
jobs are changed at a rate, which makes an event each. Printed: the seconds from an event to its
readers, the processor time of the service per event and per event received, and its memory per
stream.
"""

import argparse
import asyncio
import json
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import Manager
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.front import SMALL, rss, served

AT = re.compile(rb'event: job\.updated\ndata: \{"seq":\d+,"at":"([^"]+)"')
REST_SECONDS = 2.0
WARM_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Received:
    """What all streams together have received."""

    latencies: Sequence[float]  # seconds, sorted


async def follow(port: int, path: str, opened: asyncio.Event, latencies: list[float]) -> None:
    """Read a stream until it is cut off; note how old each event is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    since = datetime.now(UTC)  # a job's stream begins with its past
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    rest = b""
    while chunk := await reader.read(65536):
        now = datetime.now(UTC)
        if not opened.is_set() and b"event: hello" in chunk:
            opened.set()
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            if (found := AT.search(block)) is not None:
                at = datetime.fromisoformat(found[1].decode())
                if at > since:
                    latencies.append((now - at).total_seconds())
    writer.close()


def follow_all(port: int, paths: Sequence[str], ready: Any, stop: Any) -> Received:
    """Read as many streams as there are paths, until told to stop."""
    latencies: list[float] = []

    async def gather() -> None:
        opened = [asyncio.Event() for _ in paths]
        streams = [
            asyncio.create_task(follow(port, path, event, latencies))
            for path, event in zip(paths, opened, strict=True)
        ]
        for event in opened:
            await event.wait()
        ready.set()
        await asyncio.to_thread(stop.wait)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    asyncio.run(gather())
    return Received(sorted(latencies))


async def make(port: int, number: int) -> list[str]:
    """Submit so many jobs, and return their paths."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        paths = []
        for _ in range(number):
            answer = await http.post("/api/v1/generate", json=SMALL)
            paths.append(f"/api/v1/jobs/{answer.json()['id']}")
        return paths


async def change(port: int, paths: Sequence[str], *, rate: float, seconds: float) -> int:
    """Change jobs in turns at a rate, or as quickly as it goes; returns how often it was done."""
    number, done = 0, 0
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        began = time.perf_counter()
        pending: set[asyncio.Task[Any]] = set()
        while (passed := time.perf_counter() - began) < seconds:
            while number < passed * rate:
                body = json.dumps({"metadata": {"at": time.time_ns()}})  # a change each time
                kind = {"Content-Type": "application/json"}
                path = paths[number % len(paths)]
                pending.add(asyncio.create_task(http.patch(path, content=body, headers=kind)))
                number += 1
            await asyncio.sleep(0.005)
            ended = {task for task in pending if task.done()}
            done += sum(task.result().status_code == 200 for task in ended)
            pending -= ended
        done += sum(answer.status_code == 200 for answer in await asyncio.gather(*pending))
    return done


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    parts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    asked: argparse.Namespace, pid: int, port: int, manager: SyncManager, *, of: str
) -> None:
    """Open the streams, make events, and print what they cost."""
    jobs = asyncio.run(make(port, asked.streams if of == "jobs" else 50))
    paths = (
        [f"{job}/events" for job in jobs] if of == "jobs" else ["/api/v1/events"] * asked.streams
    )
    ready, stop = manager.Event(), manager.Event()
    asyncio.run(change(port, jobs, rate=asked.rate, seconds=WARM_SECONDS))
    before = rss(pid)
    began = cpu_seconds(pid)
    alone = asyncio.run(change(port, jobs, rate=asked.rate, seconds=asked.seconds))
    time.sleep(REST_SECONDS)
    without = cpu_seconds(pid) - began
    with ProcessPoolExecutor(1) as pool:
        reading = pool.submit(follow_all, port, paths, ready, stop)
        ready.wait()
        held = rss(pid) - before
        began = cpu_seconds(pid)
        events = asyncio.run(change(port, jobs, rate=asked.rate, seconds=asked.seconds))
        time.sleep(REST_SECONDS)
        used = cpu_seconds(pid) - began
        stop.set()
        latencies = reading.result().latencies
    expected = events if of == "jobs" else events * asked.streams
    extra = used / events - without / alone
    print(
        f"{asked.streams} streams of {of}, {events / asked.seconds:.0f} events/s: "
        f"{len(latencies)} of {expected} received, "
        f"median {latencies[len(latencies) // 2]:.3f} s, "
        f"p99 {latencies[int(len(latencies) * 0.99)]:.3f} s; "
        f"{extra * 1e6:.0f} µs per event beside its change, "
        f"{extra * events / len(latencies) * 1e6:.1f} µs per event received; "
        f"{held / asked.streams / 1024:.0f} KiB per stream"
    )


def main() -> None:
    """Run both kinds, each on a service of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    settings = {"REPLICATE_MOCK_DELAY_MIN": "3600", "REPLICATE_MOCK_DELAY_MAX": "3600"}
    with Manager() as manager:
        for of in ("jobs", "tenant"):
            with served(MAX_STREAMS=str(asked.streams), **settings) as (pid, port, _):
                measure(asked, pid, port, manager, of=of)


if __name__ == "__main__":
    main()
