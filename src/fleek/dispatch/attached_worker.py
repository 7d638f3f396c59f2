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
from fleek.dispatch.bridge import Bridge

FEW_THREADS: Final = 16  # handlers at once: fewer leave a worker idle while it waits for providers
STOP_SECONDS: Final = 25.0  # the longest that draining may take; then the process ends anyway
LOOK_SECONDS: Final = 0.2  # between two checks whether the start was given up

log = structlog.get_logger(__name__)


class AttachedWorker:
    """An event loop in a thread of its own, on which this process is a worker.

    Start it after any fork, from the thread that handles signals.
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
        """Return once this process is a worker, or `given_up` says that it need not become one.

        Raises:
            FleekError: It cannot become one; a setting is wrong, say.
        """
        self._thread.start()
        while not given_up():
            with suppress(TimeoutError):
                self._begun.result(LOOK_SECONDS)
                break

    def stop(self) -> None:
        """Drain the worker: finish starting predictions, release its jobs. May be called twice."""
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
            pass  # stop() was called
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
            file=sys.__stderr__,  # Dramatiq holds back what goes to `sys.stderr` while it starts
        )
