import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from fleek.dispatch.base import Handler, Reported, UnknownJob
from fleek.dispatch.bridge import DROPPED, Bridge, Closed, job_id_of
from fleek.domain.job import JobId

LIMIT = 30  # seconds; nothing here waits for time to pass
A, B, C = (JobId(UUID(int=number)) for number in range(1, 4))


class Gate:
    """A handler that notes its jobs and holds them until it is opened."""

    def __init__(self) -> None:
        self.jobs: list[JobId] = []
        self._came = asyncio.Condition()
        self._open = asyncio.Event()

    async def __call__(self, job_id: JobId) -> None:
        """Note the job, and wait."""
        async with self._came:
            self.jobs.append(job_id)
            self._came.notify_all()
        await self._open.wait()

    async def came(self, number: int) -> None:
        """Wait until so many have come."""
        async with asyncio.timeout(LIMIT), self._came:
            await self._came.wait_for(lambda: len(self.jobs) >= number)

    def open(self) -> None:
        """Let all go."""
        self._open.set()


async def refuse(_job_id: JobId) -> None:
    """Fail, having said so."""
    raise Reported("on purpose")


async def miss(_job_id: JobId) -> None:
    """Find no such job."""
    raise UnknownJob("there is no such job")


@asynccontextmanager
async def running(
    bridge: Bridge, *, start: Handler, collect: Handler, concurrency: int = 2
) -> AsyncGenerator[Callable[..., asyncio.Future[None]]]:
    """Run handlers, and give a function that receives an id in a thread of its own."""
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


async def test_a_thread_stays_until_its_job_is_handled() -> None:
    """Otherwise one worker would take every id from the broker and leave none to the others."""
    gate = Gate()
    async with running(Bridge(), start=gate, collect=gate) as receive:
        waiting = receive("start", A)
        await gate.came(1)
        before = waiting.done()

        gate.open()
        await asyncio.wait_for(waiting, LIMIT)

    assert not before


async def test_a_collect_without_a_place_does_not_hold_its_thread() -> None:
    """Downloads are slow; the thread is needed to start jobs. The id waits, and is handled."""
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


async def test_a_start_without_a_place_holds_its_thread() -> None:
    """What cannot begin here may as well begin elsewhere: no more is taken from the broker."""
    gate = Gate()
    async with running(Bridge(), start=gate, collect=gate, concurrency=1) as receive:
        first, second = receive("start", A), receive("start", B)
        await gate.came(1)
        before = second.done() or first.done()

        gate.open()
        await asyncio.wait_for(asyncio.gather(first, second), LIMIT)

    assert not before
    assert sorted(gate.jobs) == [A, B]


async def test_the_thread_hears_how_it_ended() -> None:
    """The broker's own monitor shows failures."""
    async with running(Bridge(), start=refuse, collect=refuse) as receive:
        with pytest.raises(Reported, match="on purpose"):
            await asyncio.wait_for(receive("start", A), LIMIT)


async def test_an_unknown_job_is_counted() -> None:
    """Two installations on one broker would otherwise take each other's ids in silence."""
    counter = DROPPED.labels("unknown_job")
    before = counter._value.get()
    async with running(Bridge(), start=miss, collect=miss) as receive:
        with pytest.raises(UnknownJob):
            await asyncio.wait_for(receive("start", A), LIMIT)

    assert counter._value.get() == before + 1


async def test_stopping_lets_every_thread_go() -> None:
    """A thread that is left waiting would keep the process from ending."""
    gate = Gate()
    async with running(Bridge(), start=gate, collect=gate, concurrency=1) as receive:
        handled, queued = receive("start", A), receive("start", B)
        await gate.came(1)

    ended = await asyncio.gather(handled, queued, return_exceptions=True)
    assert [type(one) for one in ended] == [Closed, Closed]


async def test_nothing_is_taken_before_and_after() -> None:
    """An id that nobody here handles belongs back to the broker."""
    bridge, gate = Bridge(), Gate()
    with pytest.raises(Closed):
        await asyncio.to_thread(bridge.receive, "start", A)
    async with running(bridge, start=gate, collect=gate):
        pass

    with pytest.raises(Closed):
        await asyncio.to_thread(bridge.receive, "start", A)

    assert gate.jobs == []


async def test_it_runs_once_at_a_time() -> None:
    """Two loops would tear one worker's ids apart."""
    bridge, gate = Bridge(), Gate()
    async with running(bridge, start=gate, collect=gate):
        with pytest.raises(RuntimeError, match="already"):
            await bridge.run({}, concurrency=1)


@pytest.mark.parametrize(
    "value",
    [None, 7, "", "7", "x" * 36, str(A).replace("-", ""), f"{{{A}}}", f" {A}", ["a"], {}],
    ids=repr,
)
def test_only_what_we_write_is_an_id(value: object) -> None:
    """Whatever else stands there was not sent by us."""
    assert job_id_of(value) is None
    assert job_id_of(str(A)) == A
