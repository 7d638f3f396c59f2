"""The bridge between a broker library's threads and the event loop: handlers, and blocking calls."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, get_args
from uuid import UUID

import structlog
from prometheus_client import Counter

from fleek.dispatch.base import Handler, Task, UnknownJob
from fleek.dispatch.embedded import EmbeddedDispatcher
from fleek.domain.errors import DispatcherUnavailable
from fleek.domain.job import JobId
from fleek.domain.text import without_credentials

TASKS: Final[tuple[Task, ...]] = get_args(Task)
SHOWN: Final = 200  # characters of a dropped message in the log

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


class Bridge:
    """Passes ids from `receive`, in threads, to the handlers of `run`, in its event loop.

    A thread waits until the handler of its id has ended, so that a worker receives no more ids
    than it can handle. One exception: if all slots for collecting are in use, the id waits in
    memory, and its thread can receive ids to be started. The number of waiting ids is limited by
    `admit`, as in the embedded dispatcher; they are lost with the process.
    """

    def __init__(self) -> None:
        self._slots = EmbeddedDispatcher()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: defaultdict[tuple[Task, JobId], list[Future[None]]] = defaultdict(list)
        self._held: set[Future[None]] = set()  # awaited by threads

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
            self._slots = EmbeddedDispatcher()
            for waiting in list(self._held):
                _end(waiting, Closed("this worker is stopping"))

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

    def receive(self, task: Task, job_id: JobId) -> None:
        """Run a task and return at its end; call it from any thread but the event loop's.

        Raises:
            Closed: It was not begun or not completed, as this worker is stopping.
            UnknownJob: There is no such job; already counted.
            Exception: Any exception of the handler.
        """
        loop = self._loop
        if loop is None:
            raise Closed("no handler is running")
        done = Future[None]()
        try:
            loop.call_soon_threadsafe(self._take, task, job_id, done)
        except RuntimeError as error:
            raise Closed("the event loop has ended") from error
        done.result()

    def hand_over(self, task: Task, job_id: JobId) -> bool:
        """Run a task without a message if a slot is free; False: it was not queued.

        Call it on an event loop; on any but the handlers' it returns False.
        """
        if self._loop is not asyncio.get_running_loop() or not self._slots.has_slot(task):
            return False
        self._slots.put(task, job_id)
        return True

    def record_dropped(self, reason: str, message: object) -> None:
        """Count and log a message that cannot be processed. Thread-safe."""
        DROPPED.labels(reason).inc()
        log.warning("message_dropped", reason=reason, message=repr(message)[:SHOWN])

    def _take(self, task: Task, job_id: JobId, done: Future[None]) -> None:
        if self._loop is None:
            _end(done, Closed("this worker is stopping"))
            return
        self._slots.put(task, job_id)
        if task == "collect" and self._slots.waits(task, job_id):
            _end(done)
            return
        self._held.add(done)
        done.add_done_callback(self._held.discard)
        self._waiting[task, job_id].append(done)

    async def _handle(self, task: Task, handler: Handler, job_id: JobId) -> None:
        """Run a task and pass its result to the waiting threads."""
        threads = self._waiting.pop((task, job_id), [])
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
            if not threads:
                raise
        finally:
            for waiting in threads:
                _end(waiting, failure)


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
