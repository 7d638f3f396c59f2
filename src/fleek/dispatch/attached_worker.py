"""A worker inside the process of a broker's own worker command."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

import structlog

from fleek import registry
from fleek.dispatch.base import Attach
from fleek.dispatch.bridge import OF_PROCESS, Bridge

FEW_THREADS: Final = 16  # concurrent handlers; with fewer, a worker mostly waits for providers
STOP_SECONDS: Final = 25.0  # maximum time for draining
LOOK_SECONDS: Final = 0.2  # between two checks for a cancelled start

log = structlog.get_logger(__name__)


class AttachedWorker:
    """Runs a worker on an event loop in a separate thread of this process.

    Start it after a fork, from the thread that handles signals.
    """

    def __init__(self, bridge: Bridge, *, dispatch: str, concurrency: int) -> None:
        self._bridge = bridge
        self._dispatch = dispatch
        self._concurrency = concurrency
        self._begun = Future[None]()
        self._thread = threading.Thread(target=self._main, name="fleek", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: asyncio.Task[None] | None = None

    def start(self, *, given_up: Callable[[], bool] = lambda: False) -> None:
        """Start the worker; returns when it runs, or when `given_up` returns True.

        Raises:
            FleekError: It cannot start, e.g. because of a wrong setting.
        """
        self._thread.start()
        while not given_up():
            with suppress(TimeoutError):
                self._begun.result(LOOK_SECONDS)
                break

    def stop(self) -> None:
        """Drain the worker: finish the starts of predictions, release its jobs. Idempotent."""
        if self._loop is not None and self._work is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._work.cancel)
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            log.error("worker_not_drained", seconds=STOP_SECONDS)

    def _main(self) -> None:
        try:
            asyncio.run(self._live())
        except asyncio.CancelledError:
            pass  # by stop()
        except BaseException as error:
            if self._begun.done():
                log.exception("worker_failed")
                os.kill(
                    os.getpid(), signal.SIGTERM
                )  # the broker's command stops, and is restarted
            else:
                self._begun.set_exception(error)
            return
        if not self._begun.done():
            self._begun.set_result(None)

    async def _live(self) -> None:
        self._loop, self._work = asyncio.get_running_loop(), asyncio.current_task()
        OF_PROCESS.set(self._bridge)
        attach: Attach = registry.attach()
        async with (
            attach(dispatch=self._dispatch, concurrency=self._concurrency) as handlers,
            self._bridge.running(handlers, concurrency=self._concurrency) as running,
        ):
            self._begun.set_result(None)
            await running


def warn_if_few(concurrency: int, *, better: str) -> None:
    """Warn on stderr that a worker has too few threads to keep it busy."""
    if concurrency < FEW_THREADS:
        print(
            f"fleek: only {concurrency} jobs can be started or collected at once by this process; "
            f"better: {better}",
            file=sys.__stderr__,  # Dramatiq buffers `sys.stderr` during its start
        )
