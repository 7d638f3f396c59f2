"""Dramatiq's workers: in its own command, in ``fleek worker``, and in the API's process."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn

from dramatiq import Broker, Middleware, Worker

from fleek.dispatch.attached_worker import AttachedWorker, warn_if_few
from fleek.dispatch.bridge import Bridge
from fleek.dispatch.dramatiq.broker import DramatiqSettings, FleekBroker
from fleek.domain.errors import FleekError
from fleek.environment import read
from fleek.settings import Settings
from fleek.telemetry import configure_logging

WRONG: Final = 2  # exit code: a wrong option or setting
IDLE_MS: Final = 100  # maximum time between two reads of an idle queue
STOP_MS: Final = 28_000
GONE_SECONDS: Final = 40.0  # more than an orderly shutdown takes
SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})


class Attach(Middleware):
    """Opens a Fleek worker in each process of Dramatiq's command, after the fork."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._worker: AttachedWorker | None = None

    def after_process_boot(self, _broker: Broker) -> None:
        """Configure logging again, as Dramatiq has replaced it."""
        try:
            settings = read(Settings)
        except FleekError as error:
            _refuse(str(error))
        configure_logging(level=settings.log_level, style=settings.log_format)
        logging.captureWarnings(capture=True)
        _end_with_parent()

    def before_worker_boot(self, _broker: Broker, worker: Worker) -> None:
        """Open the Fleek worker before messages are received; waits for the schema without a limit."""
        configure_worker(worker)
        warn_if_few(worker.worker_threads, better="--processes 1 --threads 64")
        self._worker = AttachedWorker(
            self._bridge, dispatch="dramatiq", concurrency=worker.worker_threads
        )
        try:
            self._worker.start(given_up=_stop_requested())
        except FleekError as error:
            _refuse(str(error))

    def after_worker_boot(self, _broker: Broker, worker: Worker) -> None:
        """Adjust the wait of idle threads to the interval of reads."""
        slow_idle_threads(worker)

    def before_worker_shutdown(self, _broker: Broker, worker: Worker) -> None:
        """Stop receiving, and drain the worker."""
        for thread in worker.workers:
            thread.stop()
        if self._worker is not None:
            self._worker.stop()


def make_native() -> FleekBroker:
    """Return the broker for Dramatiq's own command.

    Raises:
        ConfigurationError: A setting is wrong; that command exits instead.
    """
    bridge = Bridge()
    try:
        return FleekBroker(read(DramatiqSettings), bridge, middleware=[Attach(bridge)])
    except FleekError as error:
        if "dramatiq.cli" in sys.modules:
            _refuse(str(error))
        raise


def run_worker(*, concurrency: int) -> None:
    """Run Dramatiq's worker in this process until SIGTERM or SIGINT.

    Dramatiq's command forks, and its children survive a killed parent.
    """
    broker = make_native()
    signal.pthread_sigmask(
        signal.SIG_BLOCK, SIGNALS
    )  # also in new threads: this one waits for the signals
    broker.emit_after("process_boot")
    worker = Worker(broker, worker_threads=concurrency)
    worker.start()
    signal.sigwait(SIGNALS)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a second signal ends the process at once
    worker.stop(timeout=STOP_MS)
    broker.close()


def configure_worker(worker: Worker) -> None:
    """Set parameters without a command-line option; before the worker starts."""
    worker.worker_timeout = min(worker.worker_timeout, IDLE_MS)
    worker.queue_prefetch = worker.worker_threads  # including messages that are being handled


def slow_idle_threads(worker: Worker) -> None:
    """Wake idle threads only once a second, to check for a stop."""
    for thread in worker.workers:
        thread.timeout = 1.0


def _end_with_parent() -> None:
    """Shut down when Dramatiq's parent process is killed, as it would leave its children running."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        """End this process when its parent has gone, by force if it must."""
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(
            GONE_SECONDS
        )  # a process that was starting waits for its parent, and ignores signals
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _stop_requested() -> Callable[[], bool]:
    """Return a check for a stop signal since this call."""
    received: list[int] = []
    before = signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, note)
    return lambda: bool(received) or bool(signal.sigpending() & SIGNALS)


def _refuse(reason: str) -> NoReturn:
    print(f"fleek: {reason}", file=sys.stderr)  # noqa: T201 - one line for the operator
    raise SystemExit(WRONG)
