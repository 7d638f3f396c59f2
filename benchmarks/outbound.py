"""What a call to a provider and a download cost: `python -m benchmarks.outbound`.

A server in another process answers with a prediction, or with a file of 100 KB. Three clients take
turns in one process: ours, bare aiohttp, and httpx2 as the service used it once (a new connection
per file, the name resolved anew). Printed: milliseconds of processor time of the caller per call,
the median of the rounds with the lowest and the highest, and how many of ours one of theirs costs.
"""

import argparse
import asyncio
import json
import multiprocessing
import socket
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, cast

import aiohttp
import httpx2
import uvloop

from fleek.outbound.addresses import AllowedHost, Policy, resolve
from fleek.outbound.client import Client
from fleek.providers.http import authorization, open_api

PREDICTION: Final = json.dumps(
    {"id": "abc", "status": "processing", "logs": "x" * 300, "input": {"prompt": "a cat" * 20}}
).encode()
FILE: Final = bytes(range(256)) * 400
BODY: Final = b'{"input":{"prompt":"a cat"}}'
HEADERS: Final = {
    **authorization("r8_token"),
    "accept": "application/json",
    "accept-encoding": "identity",
}
AT_ONCE: Final = 16
CALLS: Final = ("read", "create", "download")

Call = Callable[[], Awaitable[object]]


class Answering(asyncio.Protocol):
    """Answers each request as fast as it can."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of no class of ours
        self._come = b""

    def data_received(self, data: bytes) -> None:
        """Answer what has come whole."""
        self._come += data
        while b"\r\n\r\n" in self._come:
            head, _, rest = self._come.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            if len(rest) < size:
                return
            self._come = rest[size:]
            body = FILE if head.startswith(b"GET /file ") else PREDICTION
            length = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            self._transport.write(length + body)


def answer(listener: socket.socket) -> None:
    """Serve until killed."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, sock=listener)
        await server.serve_forever()

    uvloop.run(serve())


@asynccontextmanager
async def ours(base: str) -> AsyncGenerator[dict[str, Call]]:
    """Open our client."""
    policy = Policy(patterns=(), named=(AllowedHost.of(base),))
    api, files = open_api(base, headers=authorization("r8_token")), Client(policy)

    async def read() -> object:
        return (await api.get("/predictions/abc")).json()

    async def create() -> object:
        return (await api.post("/predictions", BODY)).json()

    async def download() -> None:
        async with files.follow(f"{base}/file") as response:
            async for _ in response.body:
                pass

    yield dict(zip(CALLS, (read, create, download), strict=True))
    await api.close()
    await files.close()


@asynccontextmanager
async def bare_aiohttp(base: str) -> AsyncGenerator[dict[str, Call]]:
    """Open the library beneath ours."""
    async with aiohttp.ClientSession(headers=HEADERS) as session:

        async def read() -> object:
            async with session.get(f"{base}/predictions/abc") as response:
                return json.loads(await response.read())

        async def create() -> object:
            async with session.post(f"{base}/predictions", data=BODY) as response:
                return json.loads(await response.read())

        async def download() -> None:
            async with session.get(f"{base}/file") as response:
                async for _ in response.content.iter_any():
                    pass

        yield dict(zip(CALLS, (read, create, download), strict=True))


@asynccontextmanager
async def httpx2_as_it_was(base: str) -> AsyncGenerator[dict[str, Call]]:
    """Open what the service used before."""
    limits = httpx2.Limits(max_connections=256, max_keepalive_connections=32)
    no_reuse = httpx2.Limits(max_connections=256, max_keepalive_connections=0)
    host = httpx2.URL(base)
    async with (
        httpx2.AsyncClient(base_url=base, headers=HEADERS, limits=limits) as api,
        httpx2.AsyncClient(limits=no_reuse) as files,
    ):

        async def read() -> object:
            async with api.stream("GET", "/predictions/abc") as response:
                return json.loads(await response.aread())

        async def create() -> object:
            async with api.stream("POST", "/predictions", content=BODY) as response:
                return json.loads(await response.aread())

        async def download() -> None:
            assert host.port is not None
            await resolve(host.host, host.port)
            async with files.stream("GET", f"{base}/file") as response:
                async for _ in response.aiter_raw():
                    pass

        yield dict(zip(CALLS, (read, create, download), strict=True))


CLIENTS: Final = {
    "ours": ours,
    "aiohttp, bare": bare_aiohttp,
    "httpx2, as it was": httpx2_as_it_was,
}


async def spent(call: Call, number: int) -> float:
    """Return the milliseconds of processor time that one of many calls takes."""

    async def several() -> None:
        for _ in range(number // AT_ONCE):
            await call()

    began = time.process_time()
    await asyncio.gather(*(several() for _ in range(AT_ONCE)))
    return (time.process_time() - began) / (number // AT_ONCE * AT_ONCE) * 1000


async def measure(base: str, rounds: int, number: int) -> None:
    """Let the clients take turns, and print what each call cost."""
    times: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        calls = {
            name: await stack.enter_async_context(opened(base)) for name, opened in CLIENTS.items()
        }
        for turn in range(rounds + 1):
            for kind in CALLS:
                for name in CLIENTS:
                    milliseconds = await spent(calls[name][kind], number)
                    if turn:  # the first one opens connections and warms up
                        times.setdefault((kind, name), []).append(milliseconds)
    for (kind, name), seen in times.items():
        ratio = statistics.median(seen) / statistics.median(times[kind, "ours"])
        spread = f"{statistics.median(seen):.2f} ({min(seen):.2f}-{max(seen):.2f})"
        print(f"| {kind} | {name} | {spread} ms | {ratio:.1f} |")


def main() -> None:
    """Start the server, measure, and stop it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outbound", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=320, help="of one kind, in a round")
    asked = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = multiprocessing.get_context("fork").Process(target=answer, args=(listener,))
    server.start()
    try:
        print("| call | client | processor time | ratio to ours |\n|---|---|---|---|")
        uvloop.run(measure(base, asked.rounds, asked.calls))
    finally:
        server.kill()
        server.join()


if __name__ == "__main__":
    main()
