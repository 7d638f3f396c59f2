"""What a crowd of hostile connections does to a service: `python -m benchmarks.front`.

5,000 connections send half a head, then 200 send a head of 8 MB each. Meanwhile an ordinary caller
submits and reads. Printed: the caller's 99th percentile, the growth of the service's memory, and
how long it took until every hostile connection was closed.
"""

import argparse
import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2

HALF = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Half: "
SMALL = {"prompt": "x", "parameters": {"width": 16, "height": 16}}
PAUSE = 0.05  # seconds between two requests of the ordinary caller


def rss(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


async def hold(port: int, data: bytes) -> None:
    """Connect, send, and wait until the service closes."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)  # noqa: FBT003 - the library's way
        try:
            await loop.sock_connect(connection, ("127.0.0.1", port))
            await loop.sock_sendall(connection, data)
            while await loop.sock_recv(connection, 65536):
                pass
        except ConnectionError:
            pass


async def call(port: int, stop: asyncio.Event, seconds: list[float]) -> None:
    """Submit and read jobs until told to stop; notes how long each request took."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        while not stop.is_set():
            began = time.perf_counter()
            answer = await http.post("/api/v1/generate", json=SMALL)
            seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
            found = await http.get(answer.json()["links"]["self"])
            seconds.append(time.perf_counter() - began)
            assert (answer.status_code, found.status_code) == (201, 200)
            await asyncio.sleep(PAUSE)


async def watch(pid: int, stop: asyncio.Event, peak: list[int]) -> None:
    """Note the highest memory of a process."""
    while not stop.is_set():
        peak[0] = max(peak[0], rss(pid))
        await asyncio.sleep(0.1)


def crowd(port: int, number: int, size: int) -> None:
    """Send half a head of this size on many connections, and wait until all are closed."""

    async def gather() -> None:
        data = HALF + b"a" * size
        await asyncio.gather(*(hold(port, data) for _ in range(number)))

    asyncio.run(gather())


async def attack(name: str, pid: int, port: int, *, number: int, size: int) -> None:
    """Let a crowd in, and print what became of the caller, the memory and the crowd."""
    stop = asyncio.Event()
    seconds: list[float] = []
    quiet = asyncio.create_task(call(port, stop, seconds))
    await asyncio.sleep(3)
    before, alone = rss(pid), sorted(seconds)
    seconds.clear()
    peak = [before]
    watching = asyncio.create_task(watch(pid, stop, peak))
    began = time.perf_counter()
    with ProcessPoolExecutor(1) as apart:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(apart, crowd, port, number, size)
    took = time.perf_counter() - began
    stop.set()
    await asyncio.gather(quiet, watching)
    during = sorted(seconds)
    print(
        f"{name}: {number} closed after {took:.1f} s; memory +{(peak[0] - before) / 1e6:.0f} MB; "
        f"caller's p99 {_p99(alone) * 1000:.0f} ms alone, {_p99(during) * 1000:.0f} ms during, "
        f"longest {during[-1] * 1000:.0f} ms ({len(during)} requests)"
    )


def _p99(ordered: list[float]) -> float:
    return ordered[int(len(ordered) * 0.99)]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def _measure(pid: int, port: int, asked: argparse.Namespace) -> None:
    await attack("half a head", pid, port, number=asked.connections, size=0)
    await attack("8 MB of head", pid, port, number=asked.heads, size=8_000_000)


@contextmanager
def served(**settings: str) -> Iterator[tuple[int, int, Path]]:
    """Run a service in a folder of its own, with these settings; gives its pid, port and folder."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "API_PORT": str(port), **settings}  # noqa: TID251 - a child's environment
        command = [sys.executable, "-m", "fleek", "serve"]
        with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE) as service:  # noqa: S603 - our own program
            try:
                assert service.stdout is not None
                service.stdout.readline()
                yield service.pid, port, Path(folder)
            finally:
                service.send_signal(signal.SIGTERM)


def main() -> None:
    """Start a service, attack it, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--heads", type=int, default=200)
    asked = parser.parse_args()
    with served() as (pid, port, _):
        asyncio.run(_measure(pid, port, asked))


if __name__ == "__main__":
    main()
