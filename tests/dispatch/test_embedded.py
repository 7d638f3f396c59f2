import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from fleek.dispatch.base import Handler, Task
from fleek.dispatch.embedded import MOST_UNTAKEN, EmbeddedDispatcher
from fleek.domain.job import JobId

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

LIMIT = 30  # seconds; nothing here waits for time to pass
A, B, C = (JobId(UUID(int=number)) for number in range(1, 4))


@asynccontextmanager
async def consuming(
    dispatcher: EmbeddedDispatcher, handlers: Mapping[Task, Handler], *, concurrency: int = 4
) -> AsyncGenerator[asyncio.Task[None]]:
    """Consume in the background, until the end of the block."""
    consumer = asyncio.create_task(dispatcher.consume(handlers, concurrency=concurrency))
    await asyncio.sleep(0)  # it has started
    try:
        yield consumer
    finally:
        consumer.cancel()
        with suppress(asyncio.CancelledError):
            await consumer


class Recorder:
    """A handler that records the order of its jobs; each waits for a `step`."""

    def __init__(self) -> None:
        self.jobs: list[JobId] = []
        self._began: asyncio.Queue[None] = asyncio.Queue()
        self._step = asyncio.Semaphore(0)

    async def __call__(self, job_id: JobId) -> None:
        """Record the job, and wait."""
        self.jobs.append(job_id)
        self._began.put_nowait(None)
        await self._step.acquire()

    async def began(self, number: int) -> None:
        """Wait until this many more have started."""
        async with asyncio.timeout(LIMIT):
            for _ in range(number):
                await self._began.get()

    def step(self, number: int = 1) -> None:
        """Let this many end."""
        for _ in range(number):
            self._step.release()


async def test_ids_of_a_task_are_handled_in_order() -> None:
    """`admit` has determined the order: by priority, fairly."""
    dispatcher, line = EmbeddedDispatcher(), Recorder()
    line.step(3)
    for job_id in (B, A, C):
        await dispatcher.enqueue("start", job_id)

    async with consuming(dispatcher, {"start": line}, concurrency=1):
        await line.began(3)

    assert line.jobs == [B, A, C]


async def test_a_queued_id_is_not_queued_twice() -> None:
    """`admit` may dispatch it every 30 s for hours; memory must not grow."""
    dispatcher, line = EmbeddedDispatcher(), Recorder()
    line.step(3)
    for job_id in (A, A, A, B):
        await dispatcher.enqueue("start", job_id)

    async with consuming(dispatcher, {"start": line}, concurrency=1):
        await line.began(2)

    assert line.jobs == [A, B]


async def test_an_id_that_is_being_handled_is_queued_again() -> None:
    """The running handler may not have seen the change that caused the dispatch."""
    dispatcher, line = EmbeddedDispatcher(), Recorder()

    async with consuming(dispatcher, {"start": line}, concurrency=1):
        await dispatcher.enqueue("start", A)
        await line.began(1)
        await dispatcher.enqueue("start", A)
        line.step(2)
        await line.began(1)

    assert line.jobs == [A, A]


async def test_tasks_alternate() -> None:
    """A queue of a thousand starts delays one collect by one start, not by a thousand."""
    dispatcher, starts, collects = EmbeddedDispatcher(), Recorder(), Recorder()
    for job_id in (A, B, C):
        await dispatcher.enqueue("start", job_id)
    await dispatcher.enqueue("collect", A)

    async with consuming(dispatcher, {"start": starts, "collect": collects}, concurrency=1):
        await starts.began(1)
        starts.step()
        await collects.began(1)
        started_before = list(starts.jobs)

    assert started_before == [A]


async def test_a_task_without_a_handler_keeps_its_ids() -> None:
    """Another consumer may handle them later."""
    dispatcher, starts, collects = EmbeddedDispatcher(), Recorder(), Recorder()
    await dispatcher.enqueue("collect", A)
    await dispatcher.enqueue("start", B)
    async with consuming(dispatcher, {"start": starts}):
        await starts.began(1)

    async with consuming(dispatcher, {"collect": collects}):
        await collects.began(1)

    assert (starts.jobs, collects.jobs) == ([B], [A])


async def test_a_process_without_a_worker_keeps_a_thousand_ids() -> None:
    """Its API concludes jobs for as long as it lives, and nothing takes their ids."""
    dispatcher = EmbeddedDispatcher()

    for number in range(3 * MOST_UNTAKEN):
        await dispatcher.enqueue("collect", JobId(UUID(int=number)))

    kept = [n for n in range(3 * MOST_UNTAKEN) if dispatcher.waits("collect", JobId(UUID(int=n)))]
    assert kept == list(range(2 * MOST_UNTAKEN, 3 * MOST_UNTAKEN))


async def test_an_idle_dispatcher_has_no_tasks() -> None:
    """It costs no processor time."""
    dispatcher, line = EmbeddedDispatcher(), Recorder()
    line.step(50)

    async with consuming(dispatcher, {"start": line}) as consumer:
        for number in range(50):
            await dispatcher.enqueue("start", JobId(UUID(int=number)))
        await line.began(50)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks()

    assert tasks == {asyncio.current_task(), consumer}


async def test_tasks_are_limited_by_the_slots() -> None:
    """A task per job would be expensive."""
    dispatcher = EmbeddedDispatcher()
    tasks: set[asyncio.Task[object] | None] = set()
    done = asyncio.Semaphore(0)

    async def handle(_job_id: JobId) -> None:
        tasks.add(asyncio.current_task())
        done.release()

    for number in range(100):
        await dispatcher.enqueue("start", JobId(UUID(int=number)))
    async with consuming(dispatcher, {"start": handle}, concurrency=4):
        for _ in range(100):
            await done.acquire()

    assert len(tasks) == 4


async def test_fast_handlers_yield_to_the_event_loop() -> None:
    """The same loop answers HTTP."""
    dispatcher = EmbeddedDispatcher()
    handled: list[JobId] = []

    async def handle(job_id: JobId) -> None:
        handled.append(job_id)

    for number in range(1000):
        await dispatcher.enqueue("start", JobId(UUID(int=number)))
    async with consuming(dispatcher, {"start": handle}, concurrency=4):
        await asyncio.sleep(0)
        handled_in_one_turn = len(handled)

    assert handled_in_one_turn < 100


async def test_a_handler_has_its_own_context() -> None:
    """Otherwise each log line of a slot would have the id of the request that created it."""
    dispatcher = EmbeddedDispatcher()
    seen: asyncio.Queue[str | None] = asyncio.Queue()

    async def handle(_job_id: JobId) -> None:
        seen.put_nowait(request_id.get())

    async with consuming(dispatcher, {"start": handle}):
        request_id.set("a request")
        await dispatcher.enqueue("start", A)
        value = await asyncio.wait_for(seen.get(), LIMIT)

    assert value is None


async def test_a_handler_s_error_is_logged_with_its_job() -> None:
    """Nothing awaits a dispatch, so that only the log shows the error."""
    dispatcher, line = EmbeddedDispatcher(), Recorder()

    async def fail(_job_id: JobId) -> None:
        raise ValueError("on purpose")

    with capture_logs() as logs:
        async with consuming(dispatcher, {"start": fail, "collect": line}, concurrency=1):
            await dispatcher.enqueue("start", A)
            await dispatcher.enqueue("collect", B)
            await line.began(1)

    assert [(entry["event"], entry["task"], entry["job_id"]) for entry in logs] == [
        ("handler_failed", "start", str(A))
    ]


async def test_a_handler_that_cancels_itself_does_not_stop_the_others() -> None:
    """Awaiting something cancelled raises the same error as a shutdown."""
    dispatcher, line = EmbeddedDispatcher(), Recorder()

    async def give_up(_job_id: JobId) -> None:
        raise asyncio.CancelledError

    with capture_logs() as logs:
        async with consuming(dispatcher, {"start": give_up, "collect": line}, concurrency=1):
            await dispatcher.enqueue("start", A)
            await dispatcher.enqueue("collect", B)
            await line.began(1)

    assert [entry["event"] for entry in logs] == ["handler_gave_up"]


async def test_a_handler_that_delays_its_cancellation_is_awaited() -> None:
    """It may be writing to the database, which is closed afterwards. It takes no other job."""
    dispatcher = EmbeddedDispatcher()
    began, ended = asyncio.Event(), asyncio.Event()
    handled: list[JobId] = []

    async def resist(job_id: JobId) -> None:
        handled.append(job_id)
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended.set()

    async with consuming(dispatcher, {"start": resist}, concurrency=1):
        await dispatcher.enqueue("start", A)
        await dispatcher.enqueue("start", B)
        await began.wait()

    assert ended.is_set()
    assert handled == [A]


async def test_a_second_consumer_is_an_error() -> None:
    """It would double the concurrency of the process."""
    dispatcher, line = EmbeddedDispatcher(), Recorder()

    async with consuming(dispatcher, {"start": line}):
        with pytest.raises(RuntimeError, match="already"):
            await dispatcher.consume({"start": line}, concurrency=1)


async def test_a_dispatcher_can_be_consumed_again() -> None:
    """A worker that has lost its lease registers again in the same process."""
    dispatcher, line = EmbeddedDispatcher(), Recorder()
    async with consuming(dispatcher, {"start": line}):
        await dispatcher.enqueue("start", A)
        await line.began(1)
    await dispatcher.enqueue("start", B)

    async with consuming(dispatcher, {"start": line}):
        await line.began(1)

    assert line.jobs == [A, B]
