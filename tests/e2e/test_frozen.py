"""A frozen database: it neither responds nor disconnects, and processes can still be stopped."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from backing_services import MIGRATED, Postgres, Services
from service_process import SMALL, assert_each_once, running

GONE_SECONDS: Final = 90.0  # twenty-five, plus the delay of a busy machine


@pytest.fixture
def own(_full_suite: None) -> Iterator[Services]:
    """Yield backing services for a single test."""
    opened = Services.open()
    yield opened
    opened.close()


def send(number: signal.Signals, services: Services) -> None:
    """Send a signal to every process of PostgreSQL."""
    file = services.folder / "postgres" / "postmaster.pid"
    first = file.read_text().partition("\n")[0]
    others = subprocess.run(["pgrep", "-P", first], capture_output=True, text=True, check=False)  # noqa: S603, S607 - a command of this test
    for pid in (first, *others.stdout.split()):
        with suppress(ProcessLookupError):
            os.kill(int(pid), number)


def test_a_frozen_database_does_not_block_the_shutdown(tmp_path: Path, own: Services) -> None:
    """Waiting half a minute for each of its connections would take minutes."""
    server: Postgres = own.postgres()
    with running(tmp_path, DATABASE_URL=server.url(server.create(template=MIGRATED))) as service:
        processes = [service.serve("--no-worker"), service.worker()]
        accepted = service.submit_many(20, parameters=SMALL)
        send(signal.SIGSTOP, own)
        try:
            began = time.monotonic()
            for process in processes:
                process.popen.send_signal(signal.SIGTERM)
            codes = [process.wait() for process in processes]
            took = time.monotonic() - began
        finally:
            send(signal.SIGCONT, own)
        service.serve()
        service.settle(seconds=300)

        assert took < GONE_SECONDS, service.tails()
        assert set(codes) <= {0, 1}
        assert_each_once(service, accepted)
