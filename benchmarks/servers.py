"""The processes that are measured, and what they cost."""

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

HOST: Final = "127.0.0.1"
PATIENCE: Final = 30.0
KEPT: Final = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH", "TMPDIR")
CLIENTS: Final = 32


class Server:
    """A process that listens on a port."""

    def __init__(self, *command: str, folder: Path, env: Mapping[str, str], port: int) -> None:
        self.port = port
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}  # noqa: TID251 - a child's environment
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                [sys.executable, "-m", *command],
                cwd=folder,
                env={**kept, "LOG_LEVEL": "ERROR", **env},
                stdout=log,
                stderr=log,
            )

    def await_answer(self) -> None:
        """Wait until it takes connections."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def memory(self, name: str = "VmRSS") -> int:
        """Return its memory in bytes; ``VmHWM`` is the highest so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024

    def cpu_seconds(self) -> float:
        """Return the processor time it has used."""
        parts = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}{path}", headers={"Accept": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - likewise
            return json.load(answer)

    def load(
        self, requests: Iterable[bytes], *, seconds: float = 0, number: int = 0
    ) -> dict[str, float]:
        """Ask from another process, for so long or so often; returns its figures."""
        lines = b"\n".join(base64.b64encode(one) for one in requests)
        arguments = [str(self.port), str(CLIENTS), str(seconds), str(number)]
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "benchmarks.load", *arguments],
            input=lines,
            capture_output=True,
            check=True,
        )
        figures: dict[str, float] = json.loads(done.stdout)
        if figures["bad"]:
            raise RuntimeError(f"{figures['bad']} of {figures['answers']} answers were bad")
        return figures

    def end(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(PATIENCE)


def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
    """Return a request as it goes over the wire."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return f"{head}\r\n".encode() + content


@contextmanager
def service(
    database_url: str, env: Mapping[str, str], *options: str, worker: bool = False
) -> Generator[Server]:
    """Run ``fleek serve`` on a database, in a folder of its own; perhaps a worker beside it."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="fleek-bench-") as name:
        folder = Path(name)
        settings = {"API_PORT": str(port), "DATABASE_URL": database_url, **env}
        ours = [Server("fleek", "serve", *options, folder=folder, env=settings, port=port)]
        try:
            ours[0].await_answer()
            if worker:
                ours.append(Server("fleek", "worker", folder=folder, env=settings, port=port))
            yield ours[0]
        finally:
            for one in ours:
                one.end()


@contextmanager
def yardstick() -> Generator[Server]:
    """Run the bare application."""
    port = _free_port()
    options = ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    with tempfile.TemporaryDirectory(prefix="fleek-bench-") as name:
        here = str(Path(__file__).parent.parent)
        bare = Server(
            *("uvicorn", "benchmarks.yardstick:app", "--app-dir", here, *options),
            folder=Path(name),
            env={},
            port=port,
        )
        try:
            bare.await_answer()
            yield bare
        finally:
            bare.end()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
