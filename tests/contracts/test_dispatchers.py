"""The contract of every dispatcher, whatever carries the ids."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from fleek.dispatch.base import Dispatcher, Handler, HandsOver, SendsMany, Task
from fleek.domain.job import JobId

SECONDS = 60  # the longest duration of any step; no test waits for time to pass
MANY = 10_000  # more handlers than any test has


def a_job(number: int) -> JobId:
    """Return an id that contains a number."""
    return JobId(UUID(int=number))


class Recorder:
    """Handlers that record their ids, and hold until `release`."""

    def __init__(self, *, hold: bool = False) -> None:
        self.handled: dict[Task, list[JobId]] = {"start": [], "collect": []}
        self.order: list[Task] = []
        self.running = {"start": 0, "collect": 0}
        self.most = {"start": 0, "collect": 0, "both": 0}
        self.cancelled: list[JobId] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self._passes = asyncio.Semaphore(0 if hold else MANY)
        self._changed = asyncio.Condition()

    @property
    def handlers(self) -> Mapping[Task, Handler]:
        """One handler per task."""
        return {"start": self._start, "collect": self._collect}

    def release(self, number: int = MANY) -> None:
        """Let a number of handlers return, or every one, later ones included."""
        for _ in range(number):
            self._passes.release()

    async def count(self, number: int) -> None:
        """Wait until this many ids have been given to a handler."""

        def reached() -> bool:
            return len(self.order) >= number

        async with asyncio.timeout(SECONDS), self._changed:
            await self._changed.wait_for(reached)

    async def given(self, task: Task, *, seconds: float) -> bool:
        """Whether an id for this task reaches a handler within that time."""

        def reached() -> bool:
            return task in self.order

        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(reached)
        return reached()

    async def _start(self, job_id: JobId) -> None:
        await self._handle("start", job_id)

    async def _collect(self, job_id: JobId) -> None:
        await self._handle("collect", job_id)

    async def _handle(self, task: Task, job_id: JobId) -> None:
        self.loops.add(asyncio.get_running_loop())
        self.running[task] += 1
        self.most[task] = max(self.most[task], self.running[task])
        self.most["both"] = max(self.most["both"], sum(self.running.values()))
        try:
            async with self._changed:
                self.handled[task].append(job_id)
                self.order.append(task)
                self._changed.notify_all()
            await self._passes.acquire()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # cleaning up takes a while
            self.cancelled.append(job_id)
            raise
        finally:
            self.running[task] -= 1


@asynccontextmanager
async def consuming(
    dispatcher: Dispatcher, handlers: Mapping[Task, Handler], *, concurrency: int = 8
) -> AsyncGenerator[asyncio.Task[None]]:
    """Consume in the background, until the end of the block."""
    consumer = asyncio.create_task(dispatcher.consume(handlers, concurrency=concurrency))
    try:
        yield consumer
    finally:
        consumer.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(consumer, SECONDS)


async def test_every_id_arrives(dispatcher: Dispatcher) -> None:
    """Lost dispatches would delay every job."""
    recorder = Recorder()
    starts = [a_job(number) for number in range(100)]
    collects = [a_job(number) for number in range(100, 200)]

    async with consuming(dispatcher, recorder.handlers):
        for start, collect in zip(starts, collects, strict=True):
            await dispatcher.enqueue("start", start)
            await dispatcher.enqueue("collect", collect)
        await recorder.count(200)

    assert {task: set(ids) for task, ids in recorder.handled.items()} == {
        "start": set(starts),
        "collect": set(collects),
    }


async def test_an_id_enqueued_before_the_first_consumer_arrives(dispatcher: Dispatcher) -> None:
    """The API accepts jobs while the workers are still starting."""
    recorder = Recorder()
    await dispatcher.enqueue("start", a_job(1))

    async with consuming(dispatcher, recorder.handlers):
        await recorder.count(1)

    assert recorder.handled["start"] == [a_job(1)]


async def test_an_id_may_be_enqueued_again(dispatcher: Dispatcher) -> None:
    """A job is started once per attempt, so dispatchers must not deduplicate over time."""
    recorder = Recorder()

    async with consuming(dispatcher, recorder.handlers):
        await dispatcher.enqueue("start", a_job(1))
        await recorder.count(1)
        await dispatcher.enqueue("start", a_job(1))
        await recorder.count(2)

    assert recorder.handled["start"] == [a_job(1), a_job(1)]


async def test_handlers_run_in_the_runtime_s_event_loop(dispatcher: Dispatcher) -> None:
    """Its connections belong to one loop, whatever threads a broker's library uses."""
    recorder = Recorder()

    async with consuming(dispatcher, recorder.handlers):
        await dispatcher.enqueue("start", a_job(1))
        await dispatcher.enqueue("collect", a_job(2))
        await recorder.count(2)

    assert recorder.loops == {asyncio.get_running_loop()}


async def test_handlers_are_limited_by_the_concurrency(dispatcher: Dispatcher) -> None:
    """It limits memory, connections and the number of open starts."""
    recorder = Recorder(hold=True)

    async with consuming(dispatcher, recorder.handlers, concurrency=4):
        for number in range(20):
            await dispatcher.enqueue("start", a_job(number))
        await recorder.count(4)
        recorder.release()
        await recorder.count(20)

    assert recorder.most["start"] == 4


async def test_at_most_half_of_the_slots_collect(dispatcher: Dispatcher) -> None:
    """Downloads are slow, and must leave slots for starts."""
    recorder = Recorder(hold=True)

    async with consuming(dispatcher, recorder.handlers, concurrency=4):
        for number in range(20):
            await dispatcher.enqueue("collect", a_job(number))
        await recorder.count(2)  # or starts could take their slots
        for number in range(20, 40):
            await dispatcher.enqueue("start", a_job(number))
        await recorder.count(4)
        recorder.release()
        await recorder.count(40)

    assert recorder.most["both"] == 4
    assert recorder.most["collect"] == 2


async def test_one_slot_serves_both_tasks(dispatcher: Dispatcher) -> None:
    """Half of one slot is none: at least one may collect."""
    recorder = Recorder()

    async with consuming(dispatcher, recorder.handlers, concurrency=1):
        for number in range(10):
            await dispatcher.enqueue("start", a_job(number))
            await dispatcher.enqueue("collect", a_job(100 + number))
        await recorder.count(20)

    assert recorder.most["both"] == 1


async def test_collecting_is_not_starved_by_starting(dispatcher: Dispatcher) -> None:
    """Paid results are fetched although new jobs keep arriving.

    Each start ends only after a check for a collection, so that many checks together give the
    id enough time on a busy machine.
    """
    recorder = Recorder(hold=True)

    async with consuming(dispatcher, recorder.handlers, concurrency=2):
        for number in range(200):
            await dispatcher.enqueue("start", a_job(number))
        await recorder.count(2)
        await dispatcher.enqueue("collect", a_job(1000))
        for _ in range(90):
            recorder.release(1)
            if await recorder.given("collect", seconds=0.2):
                break

    assert recorder.handled["collect"] == [a_job(1000)]
    assert len(recorder.order) < 100


async def test_starting_is_not_starved_by_collecting(dispatcher: Dispatcher) -> None:
    """New jobs start although every slot for collections is taken."""
    recorder = Recorder(hold=True)

    async with consuming(dispatcher, recorder.handlers, concurrency=4):
        for number in range(200):
            await dispatcher.enqueue("collect", a_job(number))
        await recorder.count(2)
        await dispatcher.enqueue("start", a_job(1000))
        await recorder.count(3)

    assert recorder.handled["start"] == [a_job(1000)]


async def test_cancelling_cancels_and_awaits_running_handlers(dispatcher: Dispatcher) -> None:
    """A shutdown releases jobs, and the database must not be closed before."""
    recorder = Recorder(hold=True)

    async with consuming(dispatcher, recorder.handlers, concurrency=8):
        for number in range(4):
            await dispatcher.enqueue("start", a_job(number))
            await dispatcher.enqueue("collect", a_job(100 + number))
        await recorder.count(8)

    assert len(recorder.cancelled) == 8
    assert sum(recorder.running.values()) == 0


async def test_no_handler_begins_after_cancelling(dispatcher: Dispatcher) -> None:
    """A worker that is shutting down must not claim another job."""
    recorder = Recorder(hold=True)

    async with consuming(dispatcher, recorder.handlers, concurrency=2):
        for number in range(20):
            await dispatcher.enqueue("start", a_job(number))
        await recorder.count(2)
    recorder.release()
    await dispatcher.enqueue("start", a_job(1000))

    assert len(recorder.handled["start"]) == 2


async def test_a_raising_handler_does_not_stop_the_others(dispatcher: Dispatcher) -> None:
    """More handlers raise than there are slots."""
    recorder = Recorder()

    async def fail(_job_id: JobId) -> None:
        raise ValueError("on purpose")

    handlers: Mapping[Task, Handler] = {"start": fail, "collect": recorder.handlers["collect"]}
    async with consuming(dispatcher, handlers, concurrency=2) as consumer:
        for number in range(10):
            await dispatcher.enqueue("start", a_job(number))
        for number in range(10):
            await dispatcher.enqueue("collect", a_job(number))
        await recorder.count(10)
        still_consuming = not consumer.done()

    assert still_consuming
    assert len(recorder.handled["collect"]) == 10


async def test_check_passes_when_ids_can_be_sent(dispatcher: Dispatcher) -> None:
    """Readiness uses it for every response."""
    await dispatcher.check()


async def test_an_id_that_is_handed_over_is_handled(dispatcher: Dispatcher) -> None:
    """A dispatcher that can spare a message gives the id to the same handlers, within their slots."""
    if not isinstance(dispatcher, HandsOver):
        await dispatcher.check()  # optional: without it, every id is enqueued
        return
    recorder = Recorder(hold=True)

    before = dispatcher.hand_over("collect", a_job(0)), dispatcher.reserve("collect")
    async with consuming(dispatcher, recorder.handlers, concurrency=2):
        await dispatcher.enqueue("start", a_job(1))
        await recorder.count(1)  # its handlers run
        slot, second = dispatcher.reserve("collect"), dispatcher.reserve("collect")
        waits = dispatcher.hand_over("collect", a_job(3))
        ran = slot is not None and slot.run(a_job(2))
        await recorder.count(2)
        recorder.release()
        await recorder.count(3)

    assert before == (False, None)
    assert (ran, second, waits) == (True, None, True)
    assert recorder.handled == {"start": [a_job(1)], "collect": [a_job(2), a_job(3)]}


async def test_a_slot_that_is_given_back_goes_to_an_id_that_waits(dispatcher: Dispatcher) -> None:
    """It was kept for a job that takes another turn."""
    if not isinstance(dispatcher, HandsOver):
        await dispatcher.check()  # optional: without it, every id is enqueued
        return
    recorder = Recorder(hold=True)

    async with consuming(dispatcher, recorder.handlers, concurrency=2):
        await dispatcher.enqueue("start", a_job(1))
        await recorder.count(1)  # its handlers run
        slot = dispatcher.reserve("collect")
        dispatcher.hand_over("collect", a_job(2))
        assert slot is not None
        slot.free()
        await recorder.count(2)

    assert recorder.handled["collect"] == [a_job(2)]


async def test_every_id_of_a_message_arrives(dispatcher: Dispatcher) -> None:
    """Also if there are fewer slots than ids: those wait, or are sent back, and are lost neither way."""
    if not isinstance(dispatcher, SendsMany):
        await dispatcher.check()  # optional: without it, every id has its own message
        return
    recorder = Recorder(hold=True)
    job_ids = [a_job(number) for number in range(3 * dispatcher.most_ids)]

    async with consuming(dispatcher, recorder.handlers, concurrency=2):
        for number in range(0, len(job_ids), dispatcher.most_ids):
            batch = job_ids[number : number + dispatcher.most_ids]
            await dispatcher.enqueue_many("start", batch)
        await recorder.count(2)
        recorder.release()
        await recorder.count(len(job_ids))

    assert set(recorder.handled["start"]) == set(job_ids)
    assert recorder.most["start"] == 2
