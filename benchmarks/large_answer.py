"""What an answer of 200 MiB does to a service: `python -m benchmarks.large_answer`.

A Cog server answers a prediction with one file in the answer itself, in base64. Printed: how long
the job took, and the longest pause between two answers of `/livez` meanwhile, which is how long the
event loop was held up.
"""

import argparse
import asyncio
import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from typing import Final

import httpx2

from benchmarks.front import served

PROMPT: Final = {"prompt": "large", "provider": "cog"}
OPENAPI: Final = {
    "components": {
        "schemas": {"Input": {"type": "object", "properties": {"prompt": {"type": "string"}}}}
    }
}
PART: Final = 3 * 65_536  # bytes of the file that are encoded at once
RUNS_SECONDS: Final = 1.0
LIMIT_SECONDS: Final = 120.0


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection as a Cog server does, as far as it is asked for here."""
    try:
        while line := await reader.readline():
            method, path, _ = line.decode().split()
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = re.search(r"content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            await _respond(writer, method, path, body)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def _respond(writer: asyncio.StreamWriter, method: str, path: str, body: bytes) -> None:
    if path == "/openapi.json":
        _write(writer, 200, json.dumps(OPENAPI).encode())
    elif method != "PUT":
        _write(writer, 404, b"{}")
    elif isinstance(json.loads(body)["input"], str):  # nothing is started: "does it run?"
        running = {"id": path.rpartition("/")[2], "status": "processing"}
        _write(writer, 202, json.dumps(running).encode())
    else:
        await asyncio.sleep(RUNS_SECONDS)
        await _write_file(writer, path.rpartition("/")[2], SIZE)
    await writer.drain()


def _write(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)


async def _write_file(writer: asyncio.StreamWriter, prediction_id: str, size: int) -> None:
    before = f'{{"id":"{prediction_id}","status":"succeeded","output":"data:video/x-large;base64,'
    parts = size // (PART * 4 // 3)
    length = len(before) + parts * (PART * 4 // 3) + 2
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode() + before.encode())
    for _ in range(parts):
        writer.write(base64.b64encode(os.urandom(PART)))
        await writer.drain()
    writer.write(b'"}')


SIZE: Final = int(sys.argv[2]) if sys.argv[1:2] == ["--server"] else 0


async def _serve(listener: socket.socket) -> None:
    server = await asyncio.start_server(answer, sock=listener)
    await server.serve_forever()


async def watch(port: int, stop: asyncio.Event) -> float:
    """Return the longest time in seconds that `/livez` took."""
    longest = 0.0
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        while not stop.is_set():
            began = time.perf_counter()
            (await http.get("/livez")).raise_for_status()
            longest = max(longest, time.perf_counter() - began)
            await asyncio.sleep(0.002)
    return longest


async def measure(port: int) -> None:
    """Make one job, and print its time and the longest pause."""
    stop = asyncio.Event()
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        watching = asyncio.create_task(watch(port, stop))
        began = time.perf_counter()
        accepted = (await http.post("/api/v1/generate", json=PROMPT)).raise_for_status()
        status = accepted.json()
        while status["status"] not in {"completed", "failed"}:
            assert time.perf_counter() - began < LIMIT_SECONDS, status
            await asyncio.sleep(0.2)
            status = (await http.get(accepted.json()["links"]["self"])).json()
        took = time.perf_counter() - began
    stop.set()
    size = sum(output["size_bytes"] for output in status["outputs"])
    print(
        f"{status['status']} {status['error_message'] or ''}: {size / 1e6:.0f} MB in {took:.1f} s; "
        f"longest answer of /livez {await watching * 1000:.0f} ms"
    )


def main() -> None:
    """Start a Cog server and a service, make one job, and stop both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=200)
    asked = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "benchmarks.large_answer", "--server"]
        command += [str(asked.mebibytes * 1_048_576), str(listener.fileno())]
        with subprocess.Popen(command, pass_fds=[listener.fileno()]) as cog:  # noqa: S603 - our own program
            try:
                with served(COG_URL=url) as (_, port, _):
                    asyncio.run(measure(port))
            finally:
                cog.terminate()


if __name__ == "__main__":
    if SIZE:
        asyncio.run(_serve(socket.socket(fileno=int(sys.argv[3]))))
    else:
        main()
