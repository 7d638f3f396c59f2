import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from fleek.dispatch.base import Handler, Reported, Task, UnknownJob
from fleek.dispatch.bridge import DROPPED, Bridge, Closed, job_id_of
from fleek.domain.job import JobId

LIMIT = 30  # seconds; nothing here waits for time to pass
A, B, C = (JobId(UUID(int=number)) for number in range(1, 4))


class Gate:
    """A handler that records its jobs and blocks until it is opened."""

    def __init__(self) -> None:
        self.jobs: list[JobId] = []
        self._came = asyncio.Condition()
        self._open = asyncio.Event()

    async def __call__(self, job_id: JobId) -> None:
        """Record the job, and block."""
        async with self._came:
            self.jobs.append(job_id)
            self._came.notify_all()
        await self._open.wait()

    async def came(self, number: int) -> None:
        """Wait until this many jobs have arrived."""
        async with asyncio.timeout(LIMIT), self._came:
            await self._came.wait_for(lambda: len(self.jobs) >= number)

    def open(self) -> None:
        """Unblock all."""
        self._open.set()


async def refuse(_job_id: JobId) -> None:
    """Fail with an error that is already reported."""
    raise Reported("on purpose")


async def miss(_job_id: JobId) -> None:
    """Raise that the job is unknown."""
    raise UnknownJob("there is no such job")


@asynccontextmanager
async def running(
    bridge: Bridge, *, start: Handler, collect: Handler, concurrency: int = 2
) -> AsyncGenerator[Callable[..., asyncio.Future[None]]]:
    """Run handlers, and yield a function that receives an id in its own thread."""
    handlers = {"start": start, "collect": collect}
    threads = ThreadPoolExecutor(8)
    loop = asyncio.get_running_loop()

    def receive(*arguments: object) -> asyncio.Future[None]:
        return loop.run_in_executor(threads, bridge.receive, *arguments)  # type: ignore[arg-type]  # two words

    try:
        async with bridge.running(handlers, concurrency=concurrency):  # type: ignore[arg-type]  # tasks
            yield receive
    finally:
        await asyncio.to_thread(threads.shutdown)


async def test_a_thread_waits_until_its_job_is_handled() -> None:
    """Otherwise one worker would take every id from the broker."""
    gate = Gate()
    async with running(Bridge(), start=gate, collect=gate) as receive:
        waiting = receive("start", A)
        await gate.came(1)
        before = waiting.done()

        gate.open()
        await asyncio.wait_for(waiting, LIMIT)

    assert not before


async def test_a_collect_without_a_slot_does_not_block_its_thread() -> None:
    """The thread is needed to start jobs. The id is queued, and handled later."""
    gate = Gate()
    async with running(Bridge(), start=gate, collect=gate, concurrency=2) as receive:
        held = receive("collect", A)
        await gate.came(1)

        await asyncio.wait_for(receive("collect", B), LIMIT)
        in_time = list(gate.jobs)
        gate.open()
        await gate.came(2)
        await asyncio.wait_for(held, LIMIT)

    assert in_time == [A]
    assert gate.jobs == [A, B]


async def test_a_start_without_a_slot_blocks_its_thread() -> None:
    """The broker can give the next ids to another worker."""
    gate = Gate()
    async with running(Bridge(), start=gate, collect=gate, concurrency=1) as receive:
        first, second = receive("start", A), receive("start", B)
        await gate.came(1)
        before = second.done() or first.done()

        gate.open()
        await asyncio.wait_for(asyncio.gather(first, second), LIMIT)

    assert not before
    assert sorted(gate.jobs) == [A, B]


async def test_the_thread_gets_the_handler_s_error() -> None:
    """The broker's monitor shows failures."""
    async with running(Bridge(), start=refuse, collect=refuse) as receive:
        with pytest.raises(Reported, match="on purpose"):
            await asyncio.wait_for(receive("start", A), LIMIT)


async def test_an_unknown_job_is_counted() -> None:
    """Two installations on one broker would otherwise take each other's ids unnoticed."""
    counter = DROPPED.labels("unknown_job")
    before = counter._value.get()
    async with running(Bridge(), start=miss, collect=miss) as receive:
        with pytest.raises(UnknownJob):
            await asyncio.wait_for(receive("start", A), LIMIT)

    assert counter._value.get() == before + 1


async def test_stopping_unblocks_every_thread() -> None:
    """A blocked thread would prevent the end of the process."""
    gate = Gate()
    async with running(Bridge(), start=gate, collect=gate, concurrency=1) as receive:
        handled, queued = receive("start", A), receive("start", B)
        await gate.came(1)

    ended = await asyncio.gather(handled, queued, return_exceptions=True)
    assert [type(one) for one in ended] == [Closed, Closed]


async def test_ids_are_refused_before_and_after() -> None:
    """An id without a handler is returned to the broker."""
    bridge, gate = Bridge(), Gate()
    with pytest.raises(Closed):
        await asyncio.to_thread(bridge.receive, "start", A)
    async with running(bridge, start=gate, collect=gate):
        pass

    with pytest.raises(Closed):
        await asyncio.to_thread(bridge.receive, "start", A)

    assert gate.jobs == []


async def test_a_bridge_runs_once_at_a_time() -> None:
    """Two loops would divide one worker's ids."""
    bridge, gate = Bridge(), Gate()
    async with running(bridge, start=gate, collect=gate):
        with pytest.raises(RuntimeError, match="already"):
            await bridge.run({}, concurrency=1)


@pytest.mark.parametrize(
    "value",
    [None, 7, "", "7", "x" * 36, str(A).replace("-", ""), f"{{{A}}}", f" {A}", ["a"], {}],
    ids=repr,
)
def test_only_job_ids_are_accepted(value: object) -> None:
    """Other values were not sent by Fleek."""
    assert job_id_of(value) is None
    assert job_id_of(str(A)) == A


async def test_an_id_of_this_process_needs_no_message() -> None:
    """The coordinator runs in a worker, and messages cost as much as half a job."""
    bridge, gate = Bridge(), Gate()
    async with running(bridge, start=gate, collect=gate, concurrency=2):
        slot = bridge.reserve("collect")
        ran = slot is not None and slot.run(A)
        await gate.came(1)

    assert ran
    assert gate.jobs == [A]


async def test_no_slot_is_kept_while_none_is_free() -> None:
    """Another worker may have one: half of two slots collect."""
    bridge, gate = Bridge(), Gate()
    async with running(bridge, start=gate, collect=gate, concurrency=2):
        kept = bridge.reserve("collect")
        second = bridge.reserve("collect")
        assert kept is not None
        kept.free()
        third = bridge.reserve("collect")

    assert second is None
    assert third is not None


async def test_a_kept_slot_that_is_given_back_is_room_for_a_message() -> None:
    """The library fetches no message while a slot is kept, and must hear of it again."""
    bridge, gate = Bridge(), Gate()
    heard: list[bool] = []
    bridge.on_room = lambda: heard.append(bridge.has_room())
    async with running(bridge, start=gate, collect=gate, concurrency=1):
        slot = bridge.reserve("collect")
        assert slot is not None
        refused = bridge.has_room()
        slot.free()

    assert not refused
    assert heard == [True]


async def test_nothing_is_handed_over_to_a_process_without_handlers() -> None:
    """An API without a worker concludes jobs, too: by the provider's callbacks."""
    bridge, gate = Bridge(), Gate()
    before = bridge.hand_over("collect", A), bridge.reserve("collect")
    async with running(bridge, start=gate, collect=gate):
        slot = bridge.reserve("collect")

    assert before == (False, None)
    assert not bridge.hand_over("collect", A)
    assert slot is not None
    assert not slot.run(A)  # the worker has stopped meanwhile
    assert gate.jobs == []


async def test_a_failure_of_a_handed_over_id_stops_nothing() -> None:
    """No thread waits for it; the handler has logged it."""
    bridge, gate = Bridge(), Gate()
    async with running(bridge, start=gate, collect=refuse) as receive:
        bridge.hand_over("collect", A)
        waiting = receive("start", B)
        await gate.came(1)
        gate.open()
        await asyncio.wait_for(waiting, LIMIT)

    assert gate.jobs == [B]


async def test_a_message_ends_with_the_last_of_its_ids() -> None:
    """They run side by side: a slow one holds up no other."""
    slow, quick = Gate(), Gate()

    async def handle(job_id: JobId) -> None:
        await (slow if job_id == A else quick)(job_id)

    async with running(Bridge(), start=handle, collect=handle, concurrency=3) as receive:
        waiting = receive("start", A, B, C)
        await quick.came(2)
        quick.open()
        await slow.came(1)
        before = waiting.done()

        slow.open()
        await asyncio.wait_for(waiting, LIMIT)

    assert not before


async def test_an_unknown_id_does_not_spoil_its_message() -> None:
    """The other jobs are started; the thread gets the error, for the broker's monitor."""
    gate = Gate()

    async def handle(job_id: JobId) -> None:
        await (miss if job_id == A else gate)(job_id)

    async with running(Bridge(), start=handle, collect=gate, concurrency=3) as receive:
        waiting = receive("start", A, B, C)
        await gate.came(2)
        gate.open()
        with pytest.raises(UnknownJob):
            await asyncio.wait_for(waiting, LIMIT)

    assert sorted(gate.jobs) == [B, C]


async def test_a_message_that_is_delivered_twice_at_once_runs_each_id_once() -> None:
    """Ids that wait already are not queued again; both threads end."""
    gate = Gate()
    async with running(Bridge(), start=gate, collect=gate, concurrency=1) as receive:
        first = receive("start", A, B)
        await gate.came(1)
        second = receive("start", B, C)
        gate.open()
        await asyncio.wait_for(asyncio.gather(first, second), LIMIT)

    assert sorted(gate.jobs) == [A, B, C]


async def test_stopping_in_the_middle_of_a_message_gives_it_back() -> None:
    """One of its ids has ended: it does nothing when it is delivered again."""
    slow = Gate()

    async def handle(job_id: JobId) -> None:
        if job_id == A:
            await slow(job_id)

    async with running(Bridge(), start=handle, collect=handle, concurrency=2) as receive:
        waiting = receive("start", A, B)
        await slow.came(1)

    with pytest.raises(Closed):
        await asyncio.wait_for(waiting, LIMIT)


async def test_a_slot_that_becomes_free_during_the_look_wakes_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It looks in a thread of its own, and slots become free on the event loop."""
    bridge, woken = Bridge(), list[str]()
    bridge.on_room = lambda: woken.append("room")
    async with running(bridge, start=Gate(), collect=Gate(), concurrency=1):

        def free() -> int:
            bridge._slot_freed()  # just after the number was read
            return 0

        monkeypatch.setattr(bridge._slots, "free", free)

        assert not bridge.has_room()

    assert woken == ["room"]


async def test_ids_without_a_slot_are_sent_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may have a slot; those that have begun go on here."""
    monkeypatch.setattr("fleek.dispatch.bridge.SLOT_SECONDS", 0.0)
    bridge, gate, sent = Bridge(), Gate(), asyncio.Queue[Sequence[JobId]]()
    loop = asyncio.get_running_loop()

    def send_back(_task: Task, job_ids: Sequence[JobId]) -> None:
        loop.call_soon_threadsafe(sent.put_nowait, job_ids)

    bridge.send_back = send_back
    async with running(bridge, start=gate, collect=gate, concurrency=1) as receive:
        waiting = receive("start", A, B, C)
        returned = [await asyncio.wait_for(sent.get(), LIMIT) for _ in (B, C)]
        gate.open()
        await asyncio.wait_for(waiting, LIMIT)

    assert sorted(map(list, returned)) == [[B], [C]], (
        "one in a message, for workers of every release"
    )
    assert gate.jobs == [A]


async def test_a_broker_that_takes_nothing_back_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`admit` dispatches those ids again."""
    monkeypatch.setattr("fleek.dispatch.bridge.SLOT_SECONDS", 0.0)
    bridge, gate, tried = Bridge(), Gate(), threading.Event()

    def refuse_all(_task: Task, _job_ids: Sequence[JobId]) -> None:
        tried.set()
        raise OSError("the broker is away")

    bridge.send_back = refuse_all
    async with running(bridge, start=gate, collect=gate, concurrency=1) as receive:
        first = receive("start", A, B)
        await asyncio.to_thread(tried.wait, LIMIT)
        gate.open()
        await asyncio.wait_for(first, LIMIT)
        await asyncio.wait_for(receive("start", C), LIMIT)

    assert gate.jobs == [A, C]


async def test_a_worker_without_a_free_slot_fetches_nothing() -> None:
    """It hears of the next free slot; messages on their way count."""
    bridge, gate, room = Bridge(), Gate(), asyncio.Event()
    bridge.on_room = room.set
    async with running(bridge, start=gate, collect=gate, concurrency=2) as receive:
        before = bridge.has_room()
        bridge.expect(2)
        on_its_way = bridge.has_room()
        waiting = receive("start", A, B)
        await gate.came(2)
        full = bridge.has_room()

        gate.open()
        await asyncio.wait_for(room.wait(), LIMIT)
        await asyncio.wait_for(waiting, LIMIT)
        after = bridge.has_room()

    assert (before, on_its_way, full, after) == (True, False, False, True)


async def test_a_message_that_never_arrives_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator may revoke it. The worker would otherwise fetch nothing more."""
    monkeypatch.setattr("fleek.dispatch.bridge.COMING_SECONDS", -1.0)
    bridge, gate = Bridge(), Gate()
    async with running(bridge, start=gate, collect=gate, concurrency=1):
        bridge.expect(1)
        room = bridge.has_room()

    assert room


async def test_a_job_may_wait_in_a_worker_that_is_alone() -> None:
    """No other worker has a slot sooner."""
    bridge, gate = Bridge(), Gate()
    async with running(bridge, start=gate, collect=gate, concurrency=2):
        for job_id in (A, B):
            assert bridge.hand_over("collect", job_id)
        await gate.came(1)
        gate.open()
        await gate.came(2)

    assert gate.jobs == [A, B]


async def test_an_id_of_two_messages_is_sent_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has begun for one of them, and waits for the other."""
    monkeypatch.setattr("fleek.dispatch.bridge.SLOT_SECONDS", 0.0)
    bridge, gate, sent = Bridge(), Gate(), asyncio.Queue[Sequence[JobId]]()
    loop = asyncio.get_running_loop()

    def send_back(_task: Task, job_ids: Sequence[JobId]) -> None:
        loop.call_soon_threadsafe(sent.put_nowait, job_ids)

    bridge.send_back = send_back
    async with running(bridge, start=gate, collect=gate, concurrency=1) as receive:
        first = receive("start", A, B)
        await gate.came(1)
        returned = [*await asyncio.wait_for(sent.get(), LIMIT)]
        second = receive("start", *gate.jobs)
        returned += await asyncio.wait_for(sent.get(), LIMIT)
        await asyncio.wait_for(second, LIMIT)
        gate.open()
        await asyncio.wait_for(first, LIMIT)

    assert sorted(returned) == [A, B]
    assert len(gate.jobs) == 1
