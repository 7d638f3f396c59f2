"""The real Cog server, from the `cog` package, with a small model; on loopback, without Docker."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from authorities import trusted
from backing_services import NotStarted, free_port

MODEL: Final = Path(__file__).parent / "providers" / "cog" / "model"
START_SECONDS: Final = 120.0


class CogServer:
    """One server, with its model and its files in `folder`."""

    def __init__(
        self, folder: Path, *, slots: int = 1, environment: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._slots = slots
        self._environment = environment or {}
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._abandoned = 0
        if not (folder / "predict.py").exists():
            shutil.copytree(MODEL, folder, dirs_exist_ok=True)

    @property
    def url(self) -> str:
        """Return the server's address."""
        return f"http://127.0.0.1:{self._port}"

    def start(self, *arguments: str) -> None:
        """Start the server and wait until it accepts predictions.

        Raises:
            NotStarted: The server does not start; the message is one line.
        """
        _share_outputs()
        self._abandoned = self._unended()  # of a killed server: they will never end
        binaries = str(Path(sys.executable).parent)  # it starts its worker as plain `python`
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the server that this test is about
                [sys.executable, "-m", "cog.server.http", "--host", "127.0.0.1", *arguments],
                cwd=self.folder,
                env={
                    "PATH": f"{binaries}{os.pathsep}/usr/bin:/bin",
                    "HOME": str(self.folder),
                    "PORT": str(self._port),
                    "COG_PREDICT_TYPE_STUB": "predict.py:Runner",
                    "COG_MAX_CONCURRENCY": str(self._slots),
                    **self._environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # its worker is ended with it
            )
        deadline = time.monotonic() + START_SECONDS
        while (health := self._health()) != "READY":
            ended = self._process.poll() is not None or health in {"SETUP_FAILED", "DEFUNCT"}
            if ended or time.monotonic() > deadline:
                self.stop()
                raise NotStarted(f"Cog: the server is not ready ({health}; see {self.folder}/log)")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill the server, and wait for its end."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def rest(self) -> None:
        """Wait until nothing runs, so that the next test is not affected.

        The server is ready before a cancelled model has written that it ended: both count.

        Raises:
            NotStarted: Something still runs.
        """
        deadline = time.monotonic() + START_SECONDS
        while (health := self._health()) != "READY" or self._unended() > self._abandoned:
            if time.monotonic() > deadline:
                raise NotStarted(f"Cog: the server does not come to rest ({health})")
            time.sleep(0.02)

    def await_run(self, prompt: str) -> None:
        """Wait until the model runs for this prompt.

        Raises:
            NotStarted: It does not run.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self.runs(prompt):
            if time.monotonic() > deadline:
                raise NotStarted("Cog: the model does not run")
            time.sleep(0.02)

    def runs(self, prompt: str | None = None) -> int:
        """Return how many runs the model has started, for this prompt or in total."""
        return sum(line["event"] == "begin" for line in self._ledger(prompt))

    def ended(self, prompt: str) -> int:
        """Return how many of these runs have ended, successfully or not."""
        return sum(line["event"] == "end" for line in self._ledger(prompt))

    def _unended(self) -> int:
        events = Counter(line["event"] for line in self._ledger(None))
        return events["begin"] - events["end"]

    def most_at_once(self, prompt: str) -> int:
        """Return the maximum number of concurrent runs for this prompt."""
        alive: Counter[str] = Counter()
        most = 0
        for line in self._ledger(prompt):
            alive[prompt] += 1 if line["event"] == "begin" else -1
            most = max(most, alive[prompt])
        return most

    def digests(self) -> list[str]:
        """Return the SHA-256 of every file that the model has created."""
        path = self.folder / "digests.txt"
        return path.read_text().split() if path.exists() else []

    def _ledger(self, prompt: str | None) -> list[dict[str, Any]]:
        path = self.folder / "ledger.jsonl"
        if not path.exists():
            return []
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line for line in lines if prompt is None or line["prompt"] == prompt]

    def _health(self) -> str:
        try:
            health = httpx2.get(
                f"{self.url}/health-check",
                verify=trusted(),
                timeout=START_SECONDS,
                trust_env=False,
            ).json()
        except httpx2.HTTPError:
            return "no answer"
        return str(health["status"])


@contextmanager
def cog_server(folder: Path, **options: Any) -> Iterator[CogServer]:
    """Yield a running server, and stop it."""
    server = CogServer(folder, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _share_outputs() -> None:
    """Let every user of this machine run Cog, which always keeps its outputs here."""
    for folder in (Path("/tmp/coglet"), Path("/tmp/coglet/predictions")):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o1777)
