"""A service that buys at the emulator, small in all its times, and may be hurt in any way."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chaos.evidence import Evidence, gather
from chaos.history import History
from chaos.host import Host
from service import Process, Service, until

HEARTBEAT: Final = 0.3  # seconds; after six a silent worker is dead
SILENCE: Final = 6 * HEARTBEAT
QUICK: Final = {
    "ADOPT_SECONDS": "1",
    "RETRY_BACKOFF_BASE": "0.1",
    "RETRY_BACKOFF_MAX": "0.5",
    "MAX_CRASHES": "1000",  # whoever kills on purpose must not look like a poisonous job
    "HEARTBEAT_SECONDS": str(HEARTBEAT),
}
OPEN: Final = "SELECT count(*) FROM attempts WHERE verdict IS NULL"


class Rig(Service):
    """A service on the emulator, with a history of what its clients saw."""

    def __init__(self, folder: Path, host: Host, **settings: str) -> None:
        super().__init__(folder, **{**host.settings(), **QUICK, **settings})
        self.host = host
        self.env["PUBLIC_URL"] = f"http://127.0.0.1:{self.port}"
        if code := os.environ.get("PYTHONPATH"):  # noqa: TID251 - a child's environment
            self.env["PYTHONPATH"] = code  # another version of the code is on trial
        self.history = History(folder / "history.jsonl")

    def launch(self, *options: str, **env: str) -> Process:
        """Start ``fleek serve`` and wait until it answers, or has ended at a failpoint."""
        process = self.start("serve", *options, **env)
        try:
            process.await_line("is ready")
        except AssertionError:
            process.popen.wait(1)
            if "failpoint" not in process.tail():
                raise
        return process

    def quiesce(self, *, seconds: float) -> None:
        """Wait until every job has ended and nothing is owed any more.

        Raises:
            AssertionError: Something still is after so long; with the logs.
        """
        self.settle(seconds=seconds)
        until(
            lambda: self.rows(OPEN)[0][0] == 0,
            seconds=seconds,
            why=lambda: f"attempts without a verdict\n{self.tails()}",
        )

    def evidence(self) -> Evidence:
        """Read all that there is to judge by."""
        return gather(self, self.host, self.history.rows)

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
