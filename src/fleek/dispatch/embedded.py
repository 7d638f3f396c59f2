"""A dispatcher in memory, without a broker; queued ids are lost when the process ends."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from dataclasses import field
from functools import partial
from typing import Final, get_args

import structlog

from fleek.dispatch.base import Dispatcher, Handler, Reported, Slot, Task, UnknownJob
from fleek.domain.job import JobId
from fleek.domain.values import dataclass

log = structlog.get_logger(__name__)

TASKS: Final[tuple[Task, ...]] = get_args(Task)
MOST_UNTAKEN: Final = 1000  # ids that wait before anything consumes them


@dataclass(slots=True)
class _Consumer:
    """The slots of one `consume`."""

    handlers: Mapping[Task, Handler]
    limits: Mapping[Task, int]  # maximum of concurrent handlers per task
    concurrency: int  # maximum of concurrent handlers in total
    group: asyncio.TaskGroup
    context: Context  # for handlers, so that log lines of a job do not have the caller's variables
    running: Counter[Task] = field(default_factory=Counter)

    def has_slot(self, task: Task) -> bool:
        """Whether an id for this task could begin now."""
        return (
            task in self.handlers
            and self.running.total() < self.concurrency
            and self.running[task] < self.limits[task]
        )


@dataclass(frozen=True, slots=True)
class _KeptSlot:
    """A slot that counts as running, and has no id yet."""

    run: Callable[[JobId], bool]
    free: Callable[[], None]


class EmbeddedDispatcher:
    """Queues in memory, for callers and handlers on the same event loop; not thread-safe.

    Ids wait in order until `consume` runs. An id that already waits for the same task is not
    queued again. The memory is limited by `admit`, which dispatches few ids at a time; in a process without
    a worker, which concludes jobs by their callbacks, the oldest ids go: the worker's `admit` finds the rows.
    """

    def __init__(self) -> None:
        # Ordered sets: first in, first out, each id once.
        self._queues: dict[Task, OrderedDict[JobId, None]] = {t: OrderedDict() for t in TASKS}
        self._turns = deque(TASKS)  # round-robin: the latest served task is at the end
        self._consumer: _Consumer | None = None
        self.on_free: Callable[[], None] = lambda: None  # called when a slot stays free

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Queue this task; never waits."""
        self.put(task, job_id)

    def put(self, task: Task, job_id: JobId) -> None:
        """Queue this task; for callers on the event loop that are not coroutines."""
        queue = self._queues[task]
        queue.setdefault(job_id)
        if self._consumer is not None:
            self._fill(self._consumer)
        elif len(queue) > MOST_UNTAKEN:
            queue.popitem(last=False)

    async def consume(self, handlers: Mapping[Task, Handler], *, concurrency: int) -> None:
        """Handle ids as they come, until cancelled.

        An exception of a handler is logged. Handlers share contexts, so each must unbind the
        context variables that it binds.

        Raises:
            RuntimeError: This dispatcher is already being consumed.
        """
        if self._consumer is not None:
            raise RuntimeError("this dispatcher is already being consumed")
        async with asyncio.TaskGroup() as group:  # cancels and awaits running handlers at the end
            self._consumer = _Consumer(
                handlers=handlers,
                limits={"start": concurrency, "collect": max(1, concurrency // 2)},
                concurrency=concurrency,
                group=group,
                context=copy_context(),
            )
            try:
                self._fill(self._consumer)
                await asyncio.Event().wait()
            finally:
                self._consumer = None

    async def check(self) -> None:
        """Do nothing: memory is always reachable."""

    def hand_over(self, task: Task, job_id: JobId) -> bool:
        """Queue this task, if there are handlers."""
        if self._consumer is None:
            return False
        self.put(task, job_id)
        return True

    def reserve(self, task: Task) -> Slot | None:
        """Keep a slot for this task, if one is free."""
        consumer = self._consumer
        if consumer is None or not consumer.has_slot(task):
            return None
        consumer.running[task] += 1
        return _KeptSlot(
            run=partial(self._run_kept, consumer, task),
            free=partial(self._free_kept, consumer, task),
        )

    def free(self) -> int:
        """Return how many further ids could begin now; negative if some wait to be started.

        Ids that wait to be collected are not counted: half of the slots are for others.
        """
        if self._consumer is None:
            return 0
        running = self._consumer.running.total()
        return self._consumer.concurrency - running - len(self._queues["start"])

    def withdraw(self, task: Task, job_id: JobId) -> bool:
        """Remove an id that waits for a slot; False: it does not wait."""
        if job_id not in self._queues[task]:
            return False
        del self._queues[task][job_id]
        return True

    def waits(self, task: Task, job_id: JobId) -> bool:
        """Whether this id waits for a slot."""
        return job_id in self._queues[task]

    def _fill(self, consumer: _Consumer) -> None:
        """Open a slot for each id that can begin now."""
        while (picked := self._pick(consumer)) is not None:
            self._begin(consumer, *picked)

    def _begin(self, consumer: _Consumer, task: Task, job_id: JobId) -> None:
        consumer.group.create_task(
            self._work(consumer, task, job_id), context=consumer.context.copy()
        )

    def _run_kept(self, consumer: _Consumer, task: Task, job_id: JobId) -> bool:
        if self._consumer is not consumer:
            return False
        self._begin(consumer, task, job_id)
        return True

    def _free_kept(self, consumer: _Consumer, task: Task) -> None:
        consumer.running[task] -= 1
        self._fill(consumer)
        self.on_free()

    def _pick(self, consumer: _Consumer) -> tuple[Task, JobId] | None:
        """Return the next id, for a slot; None if no id waits, or none can begin now."""
        if self._consumer is not consumer:
            return None
        for task in self._turns:
            queue = self._queues[task]
            if queue and consumer.has_slot(task):
                self._turns.remove(task)
                self._turns.append(task)
                consumer.running[task] += 1
                return task, queue.popitem(last=False)[0]
        return None

    async def _work(self, consumer: _Consumer, task: Task, job_id: JobId) -> None:
        """Handle an id, then waiting ones, in one slot, without a task per job."""
        picked: tuple[Task, JobId] | None = (task, job_id)
        while picked is not None:
            task, job_id = picked
            try:
                await _handle(consumer.handlers[task], task, job_id)
                await asyncio.sleep(0)  # a handler that never waits must not block the event loop
            finally:
                consumer.running[task] -= 1
            picked = self._pick(consumer)
        self.on_free()


async def _handle(handler: Handler, task: Task, job_id: JobId) -> None:
    try:
        await handler(job_id)
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is None or current.cancelling():
            raise
        log.exception("handler_gave_up", task=task, job_id=str(job_id))
    except (Reported, UnknownJob) as error:
        log.debug("handler_ended_early", task=task, job_id=str(job_id), reason=str(error))
    except Exception:  # a failing job must not stop the others
        log.exception("handler_failed", task=task, job_id=str(job_id))


@asynccontextmanager
async def connect() -> AsyncGenerator[Dispatcher]:
    """Open the dispatcher; it has no settings."""
    yield EmbeddedDispatcher()
