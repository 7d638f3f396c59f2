"""Carries job ids through Celery, over Redis or any other broker that Celery knows.

The worker's own command is ``celery -A fleek.dispatch.celery worker --pool threads -c 64``, and
``celery -A fleek.dispatch.celery flower`` shows what happens.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from fleek.dispatch.base import Dispatcher, Handler, Task
from fleek.dispatch.bridge import ANSWER_SECONDS, DROPPED, Bridge, Caller
from fleek.dispatch.celery.application import (
    CelerySettings,
    FleekCelery,
    declare,
    make_app,
    send,
)
from fleek.domain.job import JobId
from fleek.environment import read


class CeleryDispatcher:
    """Talks to the broker in threads of its own: one that is away never blocks the loop."""

    def __init__(self, settings: CelerySettings) -> None:
        self._settings = settings
        self._bridge = Bridge()
        self._app = make_app(settings, self._bridge, patience=ANSWER_SECONDS)
        self._sender = Caller("celery-send", Exception)  # each broker has errors of its own
        self._checker = Caller("celery-check", Exception)
        self.figures = [DROPPED]

    def prepare(self) -> None:
        """Load what the broker's address asks for: seconds that no call has to spare."""
        self._app.finalize()
        assert self._app.amqp.Producer
        assert self._app.connection_for_write().transport

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Publish the id; the broker has it when this returns."""
        await self._sender.call(send, self._app, task, job_id)

    async def consume(self, handlers: Mapping[Task, Handler], *, concurrency: int) -> None:
        """Run Celery's worker in threads of this process, of which it is the only one.

        Raises:
            RuntimeError: This dispatcher is already being consumed, or the worker has ended.
        """
        async with self._bridge.running(handlers, concurrency=concurrency) as running:
            await self._work(running, concurrency=concurrency)

    async def check(self) -> None:
        """Declare a queue, as a sender does: that is a write."""
        await self._checker.call(declare, self._app)

    async def _work(self, running: asyncio.Task[None], *, concurrency: int) -> None:
        """Receive until cancelled, or until the handlers have stopped by themselves."""
        from fleek.dispatch.celery.embedded_worker import Worker  # noqa: PLC0415 - only for a worker

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
        self._sender.close()
        self._checker.close()
        self._app.close()


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
    from fleek.dispatch.celery.celery_cli import run_worker as run  # noqa: PLC0415 - only for a worker

    run(concurrency=concurrency)


def __getattr__(name: str) -> FleekCelery:
    """Make the application when Celery's own command asks for it, and not before."""
    if name != "app":
        raise AttributeError(name)
    from fleek.dispatch.celery.celery_cli import make_native  # noqa: PLC0415 - only for the command

    app: FleekCelery = globals().setdefault("app", make_native())
    return app
