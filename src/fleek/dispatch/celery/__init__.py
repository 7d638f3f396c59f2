"""Carries job ids through Celery, over Redis or any other broker that Celery knows.

The worker's own command is ``celery -A fleek.dispatch.celery worker --pool threads -c 64``, and
``celery -A fleek.dispatch.celery flower`` shows what happens.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final

from fleek.dispatch.base import Dispatcher, Handler, Task
from fleek.dispatch.bridge import DROPPED, Bridge
from fleek.dispatch.celery.application import (
    SEND_SECONDS,
    CelerySettings,
    FleekCelery,
    declare,
    make_app,
    send,
)
from fleek.domain.errors import DispatcherUnavailable
from fleek.domain.job import JobId
from fleek.environment import read

PATIENCE_SECONDS: Final = 1.8  # for one call of the port; health gives up after two


class CeleryDispatcher:
    """Talks to the broker in threads of its own: one that is away never blocks the loop."""

    def __init__(self, settings: CelerySettings) -> None:
        self._settings = settings
        self._bridge = Bridge()
        self._app = make_app(settings, self._bridge, patience=SEND_SECONDS)
        self._senders = ThreadPoolExecutor(1, "celery-send")
        self._checkers = ThreadPoolExecutor(1, "celery-check")
        self.figures = [DROPPED]

    def prepare(self) -> None:
        """Load what the broker's address asks for: seconds that no call has to spare."""
        self._app.finalize()
        assert self._app.amqp.Producer
        assert self._app.connection_for_write().transport

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Publish the id; the broker has it when this returns."""
        await _within(self._senders, send, self._app, task, job_id)

    async def consume(self, handlers: Mapping[Task, Handler], *, concurrency: int) -> None:
        """Run Celery's worker in threads of this process, of which it is the only one.

        Raises:
            RuntimeError: This dispatcher is already being consumed, or the worker has ended.
        """
        running = asyncio.create_task(self._bridge.run(handlers, concurrency=concurrency))
        try:
            await asyncio.wait([running], timeout=0)  # handlers are there before the first id
            if not running.done():
                await self._work(running, concurrency=concurrency)
        finally:
            running.cancel()
            await asyncio.wait([running])
        await running

    async def check(self) -> None:
        """Declare a queue, as a sender does: that is a write."""
        await _within(self._checkers, declare, self._app)

    async def _work(self, running: asyncio.Task[None], *, concurrency: int) -> None:
        """Receive until cancelled, or until the handlers have stopped by themselves."""
        from fleek.dispatch.celery.within import Worker  # noqa: PLC0415 - only for a worker

        app = make_app(self._settings, self._bridge)
        worker = Worker(app, concurrency=concurrency)
        thread = threading.Thread(target=worker.start, name="celery", daemon=True)
        thread.start()
        ended = asyncio.create_task(asyncio.to_thread(thread.join))
        try:
            await asyncio.wait([running, ended], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise RuntimeError("Celery's worker has ended")
        finally:
            worker.end()  # it takes nothing any more
            running.cancel()  # its threads come back
            await asyncio.wait([running, ended])
            app.close()

    def close(self) -> None:
        """Close the connections."""
        for threads in (self._senders, self._checkers):
            threads.shutdown(cancel_futures=True)
        self._app.close()


async def _within(threads: ThreadPoolExecutor, call: Callable[..., None], *arguments: Any) -> None:
    """Call what blocks.

    Raises:
        DispatcherUnavailable: It failed, or takes too long.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.get_running_loop().run_in_executor(threads, call, *arguments)
    except TimeoutError as error:
        raise DispatcherUnavailable("the broker does not answer") from error
    except Exception as error:  # each of Celery's many brokers has errors of its own
        raise DispatcherUnavailable(f"the broker cannot be reached: {error}") from error


@asynccontextmanager
async def connect() -> AsyncGenerator[Dispatcher]:
    """Open the dispatcher from the environment; the broker may be away."""
    dispatcher = CeleryDispatcher(read(CelerySettings))
    try:
        await asyncio.to_thread(dispatcher.prepare)
        yield dispatcher
    finally:
        await asyncio.to_thread(dispatcher.close)


def run_worker(*, concurrency: int) -> None:
    """Run Celery's worker command in this process, and exit with its code."""
    from fleek.dispatch.celery.native import run_worker as run  # noqa: PLC0415 - only for a worker

    run(concurrency=concurrency)


def __getattr__(name: str) -> FleekCelery:
    """Make the application when Celery's own command asks for it, and not before."""
    if name != "app":
        raise AttributeError(name)
    from fleek.dispatch.celery.native import make_native  # noqa: PLC0415 - only for the command

    app: FleekCelery = globals().setdefault("app", make_native())
    return app
