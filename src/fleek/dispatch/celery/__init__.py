"""A dispatcher with Celery, over Redis or any other broker that Celery supports.

Celery's worker command is ``celery -A fleek.dispatch.celery worker --pool threads -c 64``, and
``celery -A fleek.dispatch.celery flower`` shows its state.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from fleek.dispatch.base import Dispatcher, Handler, Slot, Task
from fleek.dispatch.bridge import ANSWER_SECONDS, DROPPED, MOST_IDS, Caller, bridge_of_process
from fleek.dispatch.celery.application import (
    CelerySettings,
    FleekCelery,
    declare,
    holds_back,
    make_app,
    send,
)
from fleek.domain.job import JobId
from fleek.environment import read


class CeleryDispatcher:
    """Calls the broker in separate threads: an unreachable one never blocks the event loop."""

    def __init__(self, settings: CelerySettings) -> None:
        self._settings = settings
        self._bridge = bridge_of_process()
        self._app = make_app(settings, self._bridge, patience=ANSWER_SECONDS)
        self._sender = Caller("celery-send", Exception)  # the errors depend on the broker
        self._checker = Caller("celery-check", Exception)
        self.figures = [DROPPED]
        self.most_ids = MOST_IDS if holds_back(self._app) else 1

    def prepare(self) -> None:
        """Import the broker's library, which takes seconds, before the first call."""
        self._app.finalize()
        assert self._app.amqp.Producer
        assert self._app.connection_for_write().transport

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Publish the id; returns when the broker has it."""
        await self.enqueue_many(task, [job_id])

    async def enqueue_many(self, task: Task, job_ids: Sequence[JobId]) -> None:
        """Publish ids in one message; returns when the broker has it."""
        await self._sender.call(send, self._app, task, job_ids)

    def reserve(self, task: Task) -> Slot | None:
        """Keep a slot of this process, if one is free."""
        return self._bridge.reserve(task)

    def hand_over(self, task: Task, job_id: JobId) -> bool:
        """Run the task in this process, if it has handlers."""
        return self._bridge.hand_over(task, job_id)

    async def consume(self, handlers: Mapping[Task, Handler], *, concurrency: int) -> None:
        """Run Celery's worker in threads of this process; only one at a time.

        Raises:
            RuntimeError: This dispatcher is already being consumed, or the worker ended.
        """
        async with self._bridge.running(handlers, concurrency=concurrency) as running:
            await self._work(running, concurrency=concurrency)

    async def check(self) -> None:
        """Check a write: declare a queue, as senders do."""
        await self._checker.call(declare, self._app)

    async def _work(self, running: asyncio.Task[None], *, concurrency: int) -> None:
        """Receive ids until cancelled, or until the handlers have stopped."""
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
            worker.end()  # stops receiving
            running.cancel()  # releases its threads
            await asyncio.wait([running, ended])
            app.close()

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()
        self._checker.close()
        self._app.close()


@asynccontextmanager
async def connect() -> AsyncGenerator[Dispatcher]:
    """Open the dispatcher from the environment; the broker may be unreachable."""
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
    """Create the application on first use, by Celery's own command."""
    if name != "app":
        raise AttributeError(name)
    from fleek.dispatch.celery.celery_cli import make_native  # noqa: PLC0415 - only for the command

    app: FleekCelery = globals().setdefault("app", make_native())
    return app
