"""A dispatcher with Dramatiq, over Redis.

Dramatiq's worker command is ``dramatiq fleek.dispatch.dramatiq --processes 1 --threads 64``.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import redis
from dramatiq import Worker, set_broker

from fleek.dispatch.base import Dispatcher, Handler, Slot, Task
from fleek.dispatch.bridge import ANSWER_SECONDS, DROPPED, MOST_IDS, Caller, bridge_of_process
from fleek.dispatch.dramatiq.broker import DramatiqSettings, FleekBroker
from fleek.dispatch.dramatiq.dramatiq_cli import (
    IDLE_MS,
    STOP_MS,
    configure_worker,
    make_native,
    run_worker,
    slow_idle_threads,
)
from fleek.domain.job import JobId
from fleek.environment import read

__all__ = ["DramatiqDispatcher", "connect", "run_worker"]


class DramatiqDispatcher:
    """Calls Redis in separate threads: an unreachable one never blocks the event loop."""

    most_ids = MOST_IDS

    def __init__(self, settings: DramatiqSettings) -> None:
        self._settings = settings
        self._bridge = bridge_of_process()
        self._broker = FleekBroker(settings, self._bridge, patience=ANSWER_SECONDS)
        self._sender = Caller("dramatiq-send", redis.RedisError)
        self._checker = Caller("dramatiq-check", redis.RedisError)
        self.figures = [DROPPED]

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Publish the id; returns when Redis has it."""
        await self.enqueue_many(task, [job_id])

    async def enqueue_many(self, task: Task, job_ids: Sequence[JobId]) -> None:
        """Publish ids in one message; returns when Redis has it."""
        await self._sender.call(self._broker.send, task, job_ids)

    def reserve(self, task: Task) -> Slot | None:
        """Keep a slot of this process, if one is free."""
        return self._bridge.reserve(task)

    def hand_over(self, task: Task, job_id: JobId) -> bool:
        """Run the task in this process, if it has handlers."""
        return self._bridge.hand_over(task, job_id)

    async def consume(self, handlers: Mapping[Task, Handler], *, concurrency: int) -> None:
        """Run Dramatiq's worker in threads of this process.

        Raises:
            RuntimeError: This dispatcher is already being consumed.
        """
        async with self._bridge.running(handlers, concurrency=concurrency) as running:
            await self._work(running, concurrency=concurrency)

    async def check(self) -> None:
        """Check a write: set a key that expires after a second."""
        await self._checker.call(self._broker.probe)

    async def _work(self, running: asyncio.Task[None], *, concurrency: int) -> None:
        """Receive ids until cancelled."""
        broker = FleekBroker(self._settings, self._bridge)
        worker = Worker(broker, worker_timeout=IDLE_MS, worker_threads=concurrency)
        configure_worker(worker)
        await asyncio.to_thread(worker.start)
        slow_idle_threads(worker)
        try:
            await asyncio.wait([running])
        finally:
            for thread in worker.workers:
                thread.stop()  # stops receiving
                running.cancel()  # releases the threads
            await asyncio.wait([running])
            await asyncio.to_thread(worker.stop, STOP_MS)
            broker.close()

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()
        self._checker.close()
        self._broker.close()


@asynccontextmanager
async def connect() -> AsyncGenerator[Dispatcher]:
    """Open the dispatcher from the environment; Redis may be unreachable."""
    dispatcher = DramatiqDispatcher(read(DramatiqSettings))
    try:
        yield dispatcher
    finally:
        await asyncio.to_thread(dispatcher.close)


set_broker(make_native())  # Dramatiq's command uses the broker set by its module
