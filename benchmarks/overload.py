"""What more submits than the service can take do to it: `python -m benchmarks.overload`.

3,000 callers submit at the same time: first to an idle service, then three times while its worker has
jobs of the crowd before, then while its database is locked by another process for ten seconds. Meanwhile others read a job, `/livez` and `/readyz`.
Printed: how the submits were answered and how long refusals took, the readers' times, and the
growth of the service's memory.
"""

import argparse
import asyncio
import json
import re
import socket
import sqlite3
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx2

from benchmarks.front import SMALL, rss, served, watch

LOCKED_SECONDS = 10.0
PAUSE = 0.05  # seconds between two readings
BODY = json.dumps(SMALL).encode()
REQUEST = (
    b"POST /api/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
RETRY = re.compile(r"(?i)retry-after: \d+")

Answers = list[tuple[str, float]]


async def submit(port: int, answers: Answers) -> None:
    """Submit once over a connection of its own; note the answer and the seconds until it came."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    with socket.socket() as connection:
        connection.setblocking(False)  # noqa: FBT003 - the library's way
        try:
            await loop.sock_connect(connection, ("127.0.0.1", port))
            await loop.sock_sendall(connection, REQUEST)
            head = await loop.sock_recv(connection, 65536)
        except ConnectionError as error:
            head = b"- " + type(error).__name__.encode()
    what = " ".join([head.split()[1].decode(), *RETRY.findall(head.decode())])
    answers.append((what, time.perf_counter() - began))


def submit_many(port: int, number: int) -> Answers:
    """Let so many submit at once."""
    answers: Answers = []

    async def gather() -> None:
        await asyncio.gather(*(submit(port, answers) for _ in range(number)))

    asyncio.run(gather())
    return answers


async def read(port: int, path: str, stop: asyncio.Event, answers: Answers) -> None:
    """Read a path until told to stop."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        while not stop.is_set():
            began = time.perf_counter()
            answer = await http.get(path)
            answers.append((f"{path[:16]} {answer.status_code}", time.perf_counter() - began))
            await asyncio.sleep(PAUSE)


async def crowd(pid: int, port: int, job: str, number: int) -> None:
    """Let so many submit at once, and print what became of them and of the readers."""
    stop = asyncio.Event()
    reads: Answers = []
    readers = [
        asyncio.create_task(read(port, path, stop, reads)) for path in ("/livez", "/readyz", job)
    ]
    before = rss(pid)
    peak = [before]
    watching = asyncio.create_task(watch(pid, stop, peak))
    with ProcessPoolExecutor(1) as apart:
        loop = asyncio.get_running_loop()
        submits = await loop.run_in_executor(apart, submit_many, port, number)
    stop.set()
    await asyncio.gather(*readers, watching)
    _print(submits)
    _print(reads)
    print(f"  memory +{(peak[0] - before) / 1e6:.0f} MB, at last {rss(pid) / 1e6:.0f} MB")


def lock(folder: Path, seconds: float) -> None:
    """Hold the write lock of the service's database."""
    with closing(sqlite3.connect(next(folder.rglob("*.db")), timeout=30)) as database:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)


async def measure(pid: int, port: int, folder: Path, number: int) -> None:
    """Let several crowds in."""
    origin = f"http://127.0.0.1:{port}"
    async with httpx2.AsyncClient(base_url=origin, timeout=60) as http:
        accepted = await http.post("/api/v1/generate", json=SMALL)
    job = accepted.json()["links"]["self"].removeprefix(origin)
    for state in ("an idle service", *["a busy worker"] * 3):
        print(f"{number} submits at once, {state}:")
        await crowd(pid, port, job, number)
    print(f"{number} submits at once, the database locked:")
    locked = asyncio.create_task(asyncio.to_thread(lock, folder, LOCKED_SECONDS))
    await asyncio.sleep(0.5)
    await crowd(pid, port, job, number)
    await locked


def _print(answers: Answers) -> None:
    for what, count in sorted(Counter(what for what, _ in answers).items()):
        seconds = sorted(took for other, took in answers if other == what)
        p99 = seconds[int(len(seconds) * 0.99)]
        print(f"  {what}: {count}, p99 {p99 * 1000:.0f} ms, longest {seconds[-1] * 1000:.0f} ms")


def main() -> None:
    """Start a service, overload it, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submits", type=int, default=3000)
    asked = parser.parse_args()
    with served() as (pid, port, folder):
        asyncio.run(measure(pid, port, folder, asked.submits))


if __name__ == "__main__":
    main()
