"""A service that buys at the emulator, small in all its times, and may be hurt in any way."""

import os
import select
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2

from chaos.evidence import Evidence, gather
from chaos.history import History
from chaos.host import Host
from fleek.engine.throttle import circuit_pause
from receivers import Received
from service_process import Process, Service

HEARTBEAT: Final = 0.3  # seconds; after six a silent worker is dead
SILENCE: Final = 6 * HEARTBEAT
QUICK: Final = {
    "RECONCILE_SECONDS": "1",
    "RETRY_BACKOFF_BASE": "0.1",
    "RETRY_BACKOFF_MAX": "0.5",
    "MAX_WORKER_CRASHES": "1000",  # whoever kills on purpose must not look like a poisonous job
    "HEARTBEAT_SECONDS": str(HEARTBEAT),
    "SSRF_ALLOW_CIDRS": "127.0.0.0/8",  # for receivers of webhooks
    "WEBHOOK_ALLOW_HTTP": "true",
}
LAUNCH_SECONDS: Final = 120.0
ANSWER_SECONDS: Final = 5.0  # who has not answered by then is frozen, or the machine very busy
LOOK_SECONDS: Final = 0.2  # between two looks at whether all is quiet
STILL: Final = 90.0  # seconds without any change that nothing explains; what moves is waited for
LONGEST: Final = 1200.0  # seconds; what moves for ever is wrong too
OWED: Final = """SELECT
    (SELECT count(*) FROM jobs WHERE status IN ('pending', 'processing')),
    (SELECT count(*) FROM attempts WHERE verdict IS NULL),
    (SELECT count(*) FROM deliveries WHERE state = 'pending')"""
MOVES: Final = """SELECT
    (SELECT sum(version) FROM jobs),
    (SELECT count(*) FROM attempts),
    (SELECT count(prediction_id) FROM attempts),
    (SELECT count(verdict) FROM attempts),
    (SELECT sum(empty_looks) FROM attempts WHERE verdict IS NULL),
    (SELECT sum(attempts) FROM deliveries),
    (SELECT max(failures) FROM accounts)"""


class Rig(Service):
    """A service on the emulator, with a history of what its clients saw."""

    def __init__(self, folder: Path, host: Host, **settings: str) -> None:
        super().__init__(folder, **{**host.settings(), **QUICK, **settings})
        self.host = host
        self.env["PUBLIC_URL"] = f"http://127.0.0.1:{self.port}"
        if code := os.environ.get("PYTHONPATH"):  # noqa: TID251 - a child's environment
            self.env["PYTHONPATH"] = code  # another version of the code is on trial
        self.history = History(folder / "history.jsonl")
        self.received: Sequence[Received] | None = None  # webhooks, if there is a receiver

    def launch(self, *options: str, **env: str) -> Process:
        """Start ``fleek serve`` and wait until it answers, or a failpoint has ended or frozen it.

        Raises:
            AssertionError: Neither is so; with its log.
        """
        process = self.start("serve", *options, **env)
        assert process.popen.stdout is not None
        deadline = time.monotonic() + LAUNCH_SECONDS
        seen = b""
        while b"is ready" not in seen:
            assert time.monotonic() < deadline, process.tail()
            readable, _, _ = select.select([process.popen.stdout], [], [], LOOK_SECONDS)
            chunk = os.read(process.popen.stdout.fileno(), 65536) if readable else b""
            seen += chunk
            ended = readable and not chunk
            if ended:
                process.popen.wait(LAUNCH_SECONDS)
            if ended or state(process) == "T":
                assert "failpoint" in process.tail(), process.tail()
                break
        return process

    def answers(self) -> bool:
        """Whether the API answers now."""
        try:
            return self.http.get("/livez", timeout=ANSWER_SECONDS).status_code == 200
        except httpx2.HTTPError:
            return False

    def is_ready(self, process: Process) -> bool:
        """Whether a process has finished starting: it works, or its API answers."""
        works = "--no-worker" in process.command or "worker_registered" in process.log.read_text()
        return works and (process.command[0] == "worker" or self.answers())

    def revive(self) -> bool:
        """Start the service again if it has ended by itself, as whoever runs it would.

        Returns whether it answers now.
        """
        served = [one for one in self.processes if one.command[0] == "serve"]
        if served[-1].popen.poll() is not None:
            self.launch()
        return self.answers()

    def quiesce(
        self, *, meanwhile: Callable[[], object] = lambda: None, still: float = STILL
    ) -> None:
        """Wait until every job has ended and nothing is owed any more, as long as anything moves.

        A model that rests, as its purchases failed, is waited for too. `meanwhile` is called at
        each look; after `still` seconds without any change it has failed.

        Raises:
            AssertionError: Nothing moves and something is owed, or it moves for ever; with the
                logs.
        """
        begun = changed = time.monotonic()
        before: tuple[int, ...] = ()
        while any(owed := self.rows(OWED)[0]):
            meanwhile()
            now, moves = time.monotonic(), self.rows(MOVES)[0]
            if moves != before:
                before, changed = moves, now
            rest = circuit_pause(moves[-1] or 0)
            patience = still + (0 if rest is None else rest.total_seconds())
            said = f"(jobs, attempts, deliveries) that have not ended: {owed}"
            assert now - changed < patience, f"nothing moves; {said}\n{self.tails()}"
            assert now - begun < LONGEST, f"it goes on and on; {said}\n{self.tails()}"
            time.sleep(LOOK_SECONDS)

    def evidence(self) -> Evidence:
        """Read all that there is to judge by."""
        return gather(self, self.host, self.history.rows, self.received)

    def close(self) -> None:
        """End everything that was started here; the emulator lives on."""
        for process in self.processes:
            if process.popen.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
        super().close()
        self.history.close()


def state(process: Process) -> str:
    """Return what the system says of a process: T if it is stopped."""
    stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0]


@contextmanager
def rigged(folder: Path, host: Host, **settings: str) -> Generator[Rig]:
    """Give a rig whose processes end with the block."""
    rig = Rig(folder, host, **settings)
    try:
        yield rig
    finally:
        rig.close()
