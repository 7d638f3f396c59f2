"""The service as its users have it: a process of its own, spoken to over HTTP."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

PATIENCE: Final = 30.0  # seconds until a process that does not answer is given up
KEPT: Final = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "COVERAGE_PROCESS_START", "TMPDIR")


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """One ``fleek`` process with a clean environment."""

    def __init__(self, folder: Path, *command: str, env: Mapping[str, str]) -> None:
        self.command = command
        self.log = folder / f"{command[0]}-{time.monotonic_ns()}.log"
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}  # noqa: TID251 - a child's environment
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "fleek", *command],
                cwd=folder,
                env={**kept, "LOG_FORMAT": "json", **env},
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def await_line(self, words: str) -> None:
        """Wait until it prints a line with these words.

        Raises:
            AssertionError: It ends, or stays silent for too long; with its log.
        """
        assert self.popen.stdout is not None
        deadline = time.monotonic() + PATIENCE
        seen = b""
        while words.encode() not in seen:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self.popen.stdout], [], [], max(left, 0))
            chunk = os.read(self.popen.stdout.fileno(), 65536) if readable else b""
            assert chunk, f"{self.command} did not say {words!r}: {seen!r}\n{self.tail()}"
            seen += chunk

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text()[-4000:]

    def kill(self) -> None:
        """End it as a loss of power would: no goodbye."""
        self.popen.kill()
        self._reap()

    def stop(self) -> int:
        """End it as an operator would; returns its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        code = self.popen.wait(PATIENCE)
        self._reap()
        return code

    def _reap(self) -> None:
        self.popen.wait(PATIENCE)
        assert self.popen.stdout is not None
        self.popen.stdout.close()


class Service:
    """A folder, a port and settings that outlive the processes started on them."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.env = {"API_PORT": str(self.port), "HEARTBEAT_SECONDS": "0.2", **settings}
        self.processes: list[Process] = []
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE)

    def serve(self, *options: str) -> Process:
        """Start ``fleek serve`` and wait until it answers."""
        process = self.start("serve", *options)
        process.await_line("is ready")
        return process

    def start(self, *command: str, **env: str) -> Process:
        """Start any ``fleek`` command."""
        process = Process(self.folder, *command, env={**self.env, **env})
        self.processes.append(process)
        return process

    def submit(self, prompt: str = "A cat riding a bicycle", **fields: Any) -> str:
        """Submit a job and return its id."""
        answer = self.http.post("/api/v1/generate", json={"prompt": prompt, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job."""
        answer = self.http.get(f"/api/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def by_status(self) -> dict[str, int]:
        """Return how many jobs have each status."""
        answer = self.http.get("/metrics", headers={"accept": "application/json"})
        found: dict[str, int] = answer.json()["metrics"]["jobs_by_status"]
        return found

    def settle(self, *, seconds: float) -> dict[str, int]:
        """Wait until no job is pending or processing; returns the numbers by status.

        Raises:
            AssertionError: Some still are after so long.
        """
        deadline = time.monotonic() + seconds
        while True:
            found = self.by_status()
            if not found["pending"] and not found["processing"]:
                return found
            assert time.monotonic() < deadline, f"{found}\n{self.processes[-1].tail()}"
            time.sleep(0.1)

    def close(self) -> None:
        """End everything that was started."""
        self.http.close()
        for process in self.processes:
            if process.popen.poll() is None:
                process.kill()
            elif process.popen.stdout is not None:
                process.popen.stdout.close()


@contextmanager
def running(folder: Path, **settings: str) -> Generator[Service]:
    """Give a service whose processes end with the block."""
    service = Service(folder, **settings)
    try:
        yield service
    finally:
        service.close()
