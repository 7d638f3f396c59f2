"""Between the threads of a broker's library and the event loop: handlers, and calls with a time limit."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
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
    "Messages of a broker that could not be understood and were dropped, by reason.",
    ["reason"],
    registry=None,
)
"""Of the process, whatever received them: `Dispatcher.figures` have it shown by the runtime."""

log = structlog.get_logger(__name__)


class Closed(Exception):
    """This worker has not started or is stopping; the id belongs to another worker."""


class Bridge:
    """Passes ids from `receive`, in threads, to the handlers of `run`, in its event loop.

    A thread stays with its id until the handler has ended, so that a worker takes no more ids
    from the broker than it can handle. One exception: an id to be collected that finds every
    place taken waits in memory, and its thread is free to bring ids to be started. What waits is
    bounded by `admit`, as in the embedded dispatcher, and is lost with the process.
    """

    def __init__(self) -> None:
        self._slots = EmbeddedDispatcher()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: defaultdict[tuple[Task, JobId], list[Future[None]]] = defaultdict(list)
        self._held: set[Future[None]] = set()  # threads wait for these

    async def run(self, handlers: Mapping[Task, Handler], *, concurrency: int) -> None:
        """Handle ids as they come, until cancelled; then no thread waits here any more.

        Raises:
            RuntimeError: It runs already.
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
                _end(waiting, Closed("this worker stops"))

    @asynccontextmanager
    async def running(
        self, handlers: Mapping[Task, Handler], *, concurrency: int
    ) -> AsyncGenerator[asyncio.Task[None]]:
        """Do `run` within the block, and give its task; ids are welcome from the start.

        Raises:
            RuntimeError: It runs already.
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
        """Run a task, from any thread but the loop's, and return at its end.

        Raises:
            Closed: It was not begun, or not done to the end: this worker stops.
            UnknownJob: There is no such job; counted already.
            Exception: Whatever the handler raised.
        """
        loop = self._loop
        if loop is None:
            raise Closed("no handler runs here")
        done = Future[None]()
        try:
            loop.call_soon_threadsafe(self._take, task, job_id, done)
        except RuntimeError as error:
            raise Closed("the event loop has ended") from error
        done.result()

    def record_dropped(self, reason: str, message: object) -> None:
        """Count and log a message that cannot be processed. Thread-safe."""
        DROPPED.labels(reason).inc()
        log.warning("message_dropped", reason=reason, message=repr(message)[:SHOWN])

    def _take(self, task: Task, job_id: JobId, done: Future[None]) -> None:
        if self._loop is None:
            _end(done, Closed("this worker stops"))
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
            failure = Closed("this worker stops")
            raise
        except Exception as error:
            failure = error
            if not threads:
                raise
        finally:
            for waiting in threads:
                _end(waiting, failure)


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


ANSWER_SECONDS: Final = 1.5  # to connect to a broker, and for its answer
CALL_SECONDS: Final = 1.8  # for a whole call; health gives up after two


class Caller:
    """A thread for blocking calls, one at a time."""

    def __init__(self, name: str, *errors: type[Exception]) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._errors = errors  # those that the library raises if the broker is away

    async def call(self, blocking: Callable[..., None], *arguments: Any) -> None:
        """Run a blocking call and wait for it.

        Raises:
            DispatcherUnavailable: It failed, or takes too long; then its end is not awaited.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await loop.run_in_executor(self._thread, blocking, *arguments)
        except TimeoutError as error:
            raise DispatcherUnavailable("the broker does not answer") from error
        except self._errors as error:
            words = without_credentials(str(error))
            raise DispatcherUnavailable(f"the broker cannot be reached: {words}") from error

    def close(self) -> None:
        """Wait for the running call."""
        self._thread.shutdown(cancel_futures=True)
