"""The bridge between a broker library's threads and the event loop: handlers, and blocking calls."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import field
from functools import partial
from typing import Any, Final, get_args
from uuid import UUID

import structlog
from prometheus_client import Counter

from fleek.dispatch.base import Handler, Slot, Task, UnknownJob
from fleek.dispatch.embedded import EmbeddedDispatcher
from fleek.domain.errors import DispatcherUnavailable
from fleek.domain.job import JobId
from fleek.domain.text import without_credentials
from fleek.domain.values import dataclass

TASKS: Final[tuple[Task, ...]] = get_args(Task)
SHOWN: Final = 200  # characters of a dropped message in the log
MOST_IDS: Final = 8  # of a message: with more, little is won, and more wait if a worker crashes
SLOT_SECONDS: Final = 0.5  # that an id waits for a slot while other workers may have one
COMING_SECONDS: Final = 1.0  # from the fetch of a message to its thread, at most

SendBack = Callable[[Task, Sequence[JobId]], None]
"""Sends ids to any worker; blocks. Raises any error of the broker's library."""

DROPPED: Final = Counter(
    "fleek_dropped_messages",
    "Messages of a broker that were not valid and were dropped, by reason.",
    ["reason"],
    registry=None,
)
"""One counter per process; `Dispatcher.figures` makes it part of the metrics."""

log = structlog.get_logger(__name__)


class Closed(Exception):
    """This worker has not started or is stopping; another worker should get the id."""


@dataclass(eq=False, slots=True)
class _Delivery:
    """A received message, whose thread waits for the end of its ids."""

    task: Task
    job_ids: tuple[JobId, ...]
    done: Future[None] = field(default_factory=Future)
    left: set[JobId] = field(default_factory=set)  # not ended yet
    failure: BaseException | None = None  # of the handler that failed last

    def leave(self, job_id: JobId, failure: BaseException | None = None) -> None:
        """Take note of the end of an id; the last one releases the thread."""
        self.left.discard(job_id)
        if not isinstance(self.failure, Closed):  # with it, the message is delivered again
            self.failure = failure or self.failure
        if not self.left:
            _end(self.done, self.failure)


class Bridge:
    """Passes ids from `receive`, in threads, to the handlers of `run`, in its event loop.

    A thread waits until the handlers of its ids have ended, so that a worker receives no more ids
    than it can handle. One exception: if all slots for collecting are in use, the id waits in
    memory, and its thread can receive ids to be started. The number of waiting ids is limited by
    `admit`, as in the embedded dispatcher; they are lost with the process.

    A message has up to `MOST_IDS`. `has_room` tells the library when to fetch another; ids that find no
    slot within `SLOT_SECONDS` all the same are sent back, for other workers.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots = self._new_slots()
        self._waiting: defaultdict[tuple[Task, JobId], list[_Delivery]] = defaultdict(list)
        self._held: set[_Delivery] = set()  # awaited by threads
        self._coming = deque[
            tuple[float, int]
        ]()  # messages on their way: since when, how many ids
        self._refused = False  # whether `has_room` said no since a slot was free
        self.send_back: SendBack | None = None  # None: ids wait until a slot is free
        self.on_room: Callable[[], None] = lambda: None  # called once there is room again

    async def run(self, handlers: Mapping[Task, Handler], *, concurrency: int) -> None:
        """Handle ids until cancelled; releases all waiting threads at the end.

        Raises:
            RuntimeError: It is already running.
        """
        if self._loop is not None:
            raise RuntimeError("this dispatcher is already being consumed")
        self._loop = asyncio.get_running_loop()
        wrapped: dict[Task, Handler] = {
            task: partial(self._handle, task, handler) for task, handler in handlers.items()
        }
        try:
            await self._slots.consume(wrapped, concurrency=concurrency)
        finally:
            self._loop = None
            self._slots = self._new_slots()
            self._waiting.clear()
            for delivery in list(self._held):
                _end(delivery.done, Closed("this worker is stopping"))

    @asynccontextmanager
    async def running(
        self, handlers: Mapping[Task, Handler], *, concurrency: int
    ) -> AsyncGenerator[asyncio.Task[None]]:
        """Run `run` within the block, and yield its task; ids are accepted from the beginning.

        Raises:
            RuntimeError: It is already running.
        """
        task = asyncio.create_task(self.run(handlers, concurrency=concurrency))
        try:
            await asyncio.sleep(0)
            if task.done():
                task.result()
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    def receive(self, task: Task, *job_ids: JobId) -> None:
        """Run a task for each id and return at their end; call it from any thread but the event loop's.

        Raises:
            Closed: Some were not begun or not completed, as this worker is stopping.
            UnknownJob: There is no such job; already counted.
            Exception: Any exception of a handler.
        """
        loop = self._loop
        if loop is None:
            raise Closed("no handler is running")
        delivery = _Delivery(task, job_ids)
        try:
            loop.call_soon_threadsafe(self._take, delivery)
        except RuntimeError as error:
            raise Closed("the event loop has ended") from error
        delivery.done.result()

    def expect(self, ids: int) -> None:
        """Take note of a message that was fetched, and that a thread will `receive`. Thread-safe."""
        self._coming.append((time.monotonic(), ids))

    def has_room(self) -> bool:
        """Whether another message should be fetched; if not, `on_room` follows. Thread-safe.

        A message on its way counts for a second: the library may have dropped it.
        """
        oldest = time.monotonic() - COMING_SECONDS
        while self._coming and self._coming[0][0] < oldest:
            with suppress(IndexError):  # another thread has removed it
                self._coming.popleft()
        coming = sum(ids for _, ids in tuple(self._coming))
        refused_before, self._refused = self._refused, True  # a slot may become free from here on
        room = self._loop is None or self._slots.free() > coming
        if room and not refused_before:
            self._refused = False
        return room

    def reserve(self, task: Task) -> Slot | None:
        """Keep a slot for a task that needs no message; None: none is free.

        Call it on an event loop; on any but the handlers' there is none.
        """
        return self._slots.reserve(task) if self._is_here() else None

    def hand_over(self, task: Task, job_id: JobId) -> bool:
        """Run a task without a message as soon as a slot is free; likewise, False: it was not queued."""
        return self._is_here() and self._slots.hand_over(task, job_id)

    def _is_here(self) -> bool:
        return self._loop is asyncio.get_running_loop()

    def record_dropped(self, reason: str, message: object) -> None:
        """Count and log a message that cannot be processed. Thread-safe."""
        DROPPED.labels(reason).inc()
        log.warning("message_dropped", reason=reason, message=repr(message)[:SHOWN])

    def _new_slots(self) -> EmbeddedDispatcher:
        slots = EmbeddedDispatcher()
        slots.on_free = self._slot_freed
        return slots

    def _slot_freed(self) -> None:
        if self._refused:
            self._refused = False
            self.on_room()

    def _take(self, delivery: _Delivery) -> None:
        with suppress(IndexError):  # not every library says what it expects
            self._coming.popleft()
        if self._loop is None:
            _end(delivery.done, Closed("this worker is stopping"))
            return
        task = delivery.task
        delivery.left.update(delivery.job_ids)
        self._held.add(delivery)
        delivery.done.add_done_callback(lambda _: self._held.discard(delivery))
        for job_id in delivery.job_ids:
            self._slots.put(task, job_id)
            if task == "collect" and self._slots.waits(task, job_id):
                delivery.leave(job_id)
            else:
                self._waiting[task, job_id].append(delivery)
        if self.send_back is not None and any(
            self._slots.waits(task, one) for one in delivery.left
        ):
            self._loop.call_later(SLOT_SECONDS, self._return, delivery)

    def _return(self, delivery: _Delivery) -> None:
        """Send the ids of a message back that still wait for a slot."""
        task, returned = delivery.task, list[JobId]()
        waiting = [one for one in delivery.left if delivery in self._waiting.get((task, one), ())]
        for job_id in waiting:
            deliveries = self._waiting[task, job_id]
            deliveries.remove(delivery)
            if not deliveries:  # another message does not wait for it, too
                del self._waiting[task, job_id]
                self._slots.withdraw(task, job_id)
                returned.append(job_id)
        if returned and self._loop is not None and self.send_back is not None:
            self._loop.run_in_executor(None, self._send_back, self.send_back, task, returned)
        for job_id in waiting:
            delivery.leave(job_id)

    def _send_back(self, send: "SendBack", task: Task, job_ids: Sequence[JobId]) -> None:
        try:
            for (
                job_id
            ) in job_ids:  # each in a message of its own: a worker of any release may get it
                send(task, [job_id])
        except Exception as error:  # noqa: BLE001 - of any library; `admit` dispatches them again
            reason = without_credentials(str(error))
            log.warning("dispatch_failed", jobs=len(job_ids), reason=reason)

    async def _handle(self, task: Task, handler: Handler, job_id: JobId) -> None:
        """Run a task and pass its result to the waiting threads."""
        deliveries = self._waiting.pop((task, job_id), [])
        failure: BaseException | None = None
        try:
            await handler(job_id)
        except UnknownJob as error:
            failure = error
            self.record_dropped("unknown_job", f"{task} {job_id}")
        except asyncio.CancelledError:
            failure = Closed("this worker is stopping")
            raise
        except Exception as error:
            failure = error
            if not deliveries:
                raise
        finally:
            for delivery in deliveries:
                delivery.leave(job_id, failure)


OF_PROCESS: Final[ContextVar[Bridge]] = ContextVar("bridge")
"""The bridge of a broker's own worker command, for the dispatcher that its Fleek worker opens.

Without it the two would not know of each other, and every id would make a detour by the broker.
"""


def bridge_of_process() -> Bridge:
    """Return the bridge whose handlers will run in this context, or a new one."""
    return OF_PROCESS.get(None) or Bridge()


def job_id_of(value: object) -> JobId | None:
    """Return the job id in a message; None unless it is a UUID in canonical form."""
    if not isinstance(value, str):
        return None
    try:
        job_id = UUID(value)
    except ValueError:
        return None
    return JobId(job_id) if str(job_id) == value else None


def job_ids_of(values: object) -> tuple[JobId, ...] | None:
    """Return the job ids of a message; None unless there are 1 to `MOST_IDS`, each in canonical form."""
    if not isinstance(values, list) or not 1 <= len(values) <= MOST_IDS:
        return None
    job_ids = [job_id_of(value) for value in values]
    return None if None in job_ids else tuple(one for one in job_ids if one is not None)


def _end(waiting: Future[None], error: BaseException | None = None) -> None:
    if waiting.done():
        return
    if error is None:
        waiting.set_result(None)
    else:
        waiting.set_exception(error)


ANSWER_SECONDS: Final = 1.5  # for connecting to a broker, and for its response
CALL_SECONDS: Final = 1.8  # for a whole call; the health check's limit is two


class Caller:
    """A thread for blocking calls, one after the other."""

    def __init__(self, name: str, *errors: type[Exception]) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._errors = errors  # of the library, if the broker is unreachable

    async def call(self, blocking: Callable[..., None], *arguments: Any) -> None:
        """Run a blocking call and wait for its end.

        Raises:
            DispatcherUnavailable: It failed, or took too long; then its end is not awaited.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await loop.run_in_executor(self._thread, blocking, *arguments)
        except TimeoutError as error:
            raise DispatcherUnavailable("the broker does not respond") from error
        except self._errors as error:
            words = without_credentials(str(error))
            raise DispatcherUnavailable(f"the broker cannot be reached: {words}") from error

    def close(self) -> None:
        """Wait for the running call."""
        self._thread.shutdown(cancel_futures=True)
