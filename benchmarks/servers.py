"""The processes that are measured."""

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.usage import Usage, memory, usage

HOST: Final = "127.0.0.1"
PATIENCE: Final = 300.0  # seconds: other programs may keep the cores
KEPT: Final = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH", "TMPDIR")
CLIENTS: Final = 32
ROOT: Final = Path(__file__).parent.parent
PATIENT: Final = {"MAX_WRITE_WAIT_SECONDS": "60"}
"""Other programs on a machine may delay requests for longer than they wait by default."""
NO_THUMBNAILS: Final = {"MAKE_THUMBNAILS": "false"}  # the way of jobs is measured, not decoders

UVICORN: Final = ("--loop", "uvloop", "--http", "httptools", "--no-access-log")


class Program:
    """A Python program of its own, in a folder."""

    def __init__(self, *command: str, folder: Path, env: Mapping[str, str]) -> None:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}  # noqa: TID251 - a child's environment
        self.log = folder / f"{command[-1].strip('-')}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own programs
                [sys.executable, "-m", *command],
                cwd=folder,
                env={**kept, "LOG_LEVEL": "WARNING", **env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def ask(self, line: str) -> Any:
        """Write a line to the program, and return the JSON of the line that it answers."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)


class Server:
    """What answers on a port: one process, or several that belong together."""

    def __init__(self, port: int, *programs: Program) -> None:
        self.port = port
        self.programs = programs

    def await_answer(self) -> None:
        """Wait until it takes connections.

        Raises:
            RuntimeError: It has ended, or does not take any; with its log.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
            except OSError as error:
                ended = self.programs[0].process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"{self.port}: {self.programs[0].log.read_text()}"
                    ) from error
                time.sleep(0.01)
            else:
                return

    def usage(self) -> Usage:
        """Return what its processes have used."""
        return usage(*(program.process.pid for program in self.programs))

    def memory(self, name: str = "VmRSS") -> int:
        """Return the memory of its first process in bytes; ``VmHWM`` is the highest so far."""
        return memory(self.programs[0].process.pid, name)

    def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}{path}", headers={"Accept": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - ours
            return json.load(answer)

    def send(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        """Send JSON to a path."""
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        urllib.request.urlopen(request, timeout=PATIENCE).close()  # noqa: S310 - likewise

    def load(
        self, requests: Iterable[bytes], *, seconds: float = 0, number: float = 0
    ) -> dict[str, float]:
        """Ask from another process, for so long or so often; returns its figures.

        Raises:
            RuntimeError: Not every answer was a success.
        """
        lines = b"\n".join(base64.b64encode(one) for one in requests)
        clients = min(CLIENTS, int(number) or CLIENTS)  # one without a request would be closed
        arguments = [str(self.port), str(clients), str(seconds), str(int(number))]
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "benchmarks.load", *arguments],
            cwd=ROOT,
            input=lines,
            capture_output=True,
            check=True,
        )
        figures: dict[str, float] = json.loads(done.stdout)
        if figures["bad"]:
            raise RuntimeError(f"{figures['bad']} of {figures['answers']} answers were bad")
        return figures


def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
    """Return a request as it goes over the wire."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return f"{head}\r\n".encode() + content


@contextmanager
def service(
    database_url: str,
    env: Mapping[str, str],
    *options: str,
    workers: int = 0,
    callbacks: bool = False,
    program: tuple[str, ...] = ("fleek",),
) -> Generator[Server]:
    """Run ``fleek serve`` on a database, in a folder of its own; perhaps with workers beside it.

    `callbacks`: the provider is given the service's address for them.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        port = free_port()
        settings = {"API_PORT": str(port), "DATABASE_URL": database_url}
        if callbacks:
            settings["PUBLIC_URL"] = f"http://{HOST}:{port}"
        settings |= PATIENT | NO_THUMBNAILS | dict(env)
        api = Program(*program, "serve", *options, folder=folder, env=settings)
        stack.enter_context(api)
        Server(port, api).await_answer()
        beside = [
            stack.enter_context(Program("fleek", "worker", folder=folder, env=settings))
            for _ in range(workers)
        ]
        yield Server(port, api, *beside)


@contextmanager
def bare_api() -> Generator[Server]:
    """Run the bare application."""
    with _folder() as folder:
        port = free_port()
        command = ("uvicorn", "benchmarks.yardstick:app", "--port", str(port), *UVICORN)
        with Program(*command, folder=folder, env={"PYTHONPATH": str(ROOT)}) as program:
            server = Server(port, program)
            server.await_answer()
            yield server


@contextmanager
def bare_celery(provider: Server, redis_url: str) -> Generator[Server]:
    """Run the service on Celery that promises nothing."""
    env = {
        "BENCH_API": f"http://{HOST}:{provider.port}",
        "BENCH_REDIS": redis_url,
        "PYTHONPATH": str(ROOT),
    }
    module = "benchmarks.celery_service"
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        port = free_port()
        front = ("uvicorn", f"{module}:api", "--port", str(port), *UVICORN)
        api = stack.enter_context(Program(*front, folder=folder, env=env))
        Server(port, api).await_answer()
        back = ("celery", "-A", module, "worker", "--pool", "threads", "-c", "64")
        worker = stack.enter_context(Program(*back, folder=folder, env=env))
        yield Server(port, api, worker)


@contextmanager
def pipeline(provider: Server, at_once: int) -> Generator[Program]:
    """Run the bare pipeline; see `benchmarks.pipeline`."""
    with _folder() as folder:
        command = ("benchmarks.pipeline", f"http://{HOST}:{provider.port}", str(at_once))
        with Program(*command, folder=folder, env={"PYTHONPATH": str(ROOT)}) as program:
            yield program


@contextmanager
def provider(seconds: float) -> Generator[Server]:
    """Run the emulator, whose predictions take so long."""
    with _folder() as folder:
        port = free_port()
        with Program("fleek.emulator", "--port", str(port), folder=folder, env={}) as program:
            server = Server(port, program)
            server.await_answer()
            server.send("PATCH", "/_emu/plan", {"queue_seconds": 0, "predict_seconds": seconds})
            yield server


def at(provider: Server) -> dict[str, str]:
    """Return the settings of a service that uses this emulator, and may call it at any rate."""
    return {
        "PROVIDERS": "replicate",
        "REPLICATE_BASE_URL": f"http://{HOST}:{provider.port}/v1",
        "REPLICATE_API_TOKEN": "r8_benchmark_0123456789abcdefghijkl",
        "REPLICATE_CREATES_PER_MINUTE": "100000",
        "REPLICATE_CALLS_PER_MINUTE": "1000000",
    }


@contextmanager
def _folder() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="fleek-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
