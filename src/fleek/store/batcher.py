"""One commit for many callers.

A transaction costs a wait for the disk however little it writes. So callers that come while one
is under way wait together, and the next transaction takes them all. What waits can still be taken
back: a batch is made up only when its transaction is open.

Steps of jobs yield to requests. There may be a hundred at once, and one transaction for all of them
occupies the writer of SQLite, and the event loop, several times as long as all submissions of a
moment do, which wait for it. So while requests write, few steps share a transaction, and between
two of these is one of requests. While many requests come, steps rest in between, as what a job does
beside its steps keeps the process from requests, too: without the rest, callers get two thirds of the
answers. Neither waits for ever, as rests are short, and transactions take their turns in order.

While there are many steps, they do not come together by themselves: each follows an answer of a host or
a file of its own. So a transaction with few of them begins a little later than the one before (`Pace`).
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import ContextVar
from datetime import timedelta
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from fleek.domain.errors import FleekError, HostError, InternalError, Overloaded, WriteUnknown

Item = TypeVar("Item")
Result = TypeVar("Result")

Begin = Callable[[], AbstractAsyncContextManager[Any]]
"""Opens what a batch is flushed on; leaving it commits."""

Flush = Callable[[Any, Sequence[Item]], Awaitable[Sequence[Result | FleekError]]]
"""Does the work for all items at once, or for none: one answer for each, in their order."""

LATE_SECONDS: Final = 0.1  # a timer that is off by more means that the event loop was busy
AGAIN_SECONDS: Final = 0.1  # then until the next look
TRIES: Final = 4
SHORTEST_WAIT: Final = 0.2  # seconds, for the item of a request that has waited elsewhere
UNDER_WAY: Final = timedelta(seconds=5)  # beyond a caller's patience, for a batch to be confirmed

RECENT_SECONDS: Final = 0.5  # since the latest write of a request: more of them may be under way
FEW: Final = 16  # steps in one transaction meanwhile; fewer cost much more each
SHARE: Final = 8  # or one in so many of those that wait, so that no backlog outlasts light traffic
REST_SECONDS: Final = 0.0002  # per recent request, from one such transaction to the next
LONGEST_REST_SECONDS: Final = 0.08  # when as many requests come as the process can answer

PACE_SECONDS: Final = 0.02  # from a transaction with steps to the next small one
LATELY_SECONDS: Final = 0.1
MANY: Final = 12  # steps in that time: 120 in a second, as 25 jobs have; with fewer none waits
FULL: Final = 16  # steps that wait for no others: more share a transaction if they come at once

arrived_at: ContextVar[float | None] = ContextVar("arrived_at", default=None)
"""When the request arrived for which this task runs (monotonic seconds); None: no request."""


class Requests:
    """How many requests write now; one for all batchers whose transactions may delay each other."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._latest = float("-inf")
        self._number = 0.0  # of recent ones
        self._weighed_at = float("-inf")  # since then older ones count less

    def come(self) -> None:
        """Take note of an item of a request that comes."""
        self._latest = self._clock()
        self._number += 1

    def note(self) -> None:
        """Take note of an item of a request, when it is answered."""
        self._latest = self._clock()

    def recent(self) -> bool:
        """Whether there was one lately."""
        return self._clock() - self._latest < RECENT_SECONDS

    def rest(self) -> float:
        """Return for how many seconds steps rest, counted from the beginning of their latest transaction."""
        now = self._clock()
        self._number *= math.exp((self._weighed_at - now) / RECENT_SECONDS)
        self._weighed_at = now
        return min(REST_SECONDS * self._number, LONGEST_REST_SECONDS)


class Pace:
    """How long a transaction with few steps waits for more: not at all, unless many were written lately.

    A transaction has its price whatever is written: without this, a job has half as many more, and takes
    5 % more processor time. A job alone never waits.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: deque[tuple[float, int]] = deque()  # when, and with how many steps

    def note(self, steps: int) -> None:
        """Take note of a transaction that begins."""
        self._forget_old()
        self._begun.append((self._clock(), steps))

    def rest(self) -> float:
        """Return the seconds until the next small transaction should begin."""
        self._forget_old()
        few = sum(steps for _, steps in self._begun) < MANY
        return 0 if few else self.left(PACE_SECONDS)

    def left(self, seconds: float) -> float:
        """Return how much is left of so many seconds since the latest transaction began."""
        return max(self._begun[-1][0] + seconds - self._clock(), 0) if self._begun else 0

    def _forget_old(self) -> None:
        oldest = self._clock() - LATELY_SECONDS
        while self._begun and self._begun[0][0] < oldest:
            self._begun.popleft()


class Batcher(Generic[Item, Result]):
    """Gathers the items of concurrent callers and flushes them together.

    ``shards`` flushes may run at once, each with at most ``limit`` items; of those that yield, with
    at most `FEW` while there are ``requests``. A `HostError` concerns
    all callers alike. After any other error the items are flushed in halves, and halves of these,
    so that in the end only the callers of bad items get the error.
    """

    def __init__(
        self,
        begin: Begin,
        flush: Flush[Item, Result],
        *,
        shards: int = 1,
        limit: int = 500,
        under_way: timedelta = UNDER_WAY,
        requests: Requests | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._begin = begin
        self._flush = flush
        self._idle = shards
        self._limit = limit
        self._under_way = under_way.total_seconds()
        self._requests = requests or Requests()
        self._pace = pace or Pace()
        self._waiting: dict[asyncio.Future[Result], Item] = {}  # in the order of their arrival
        self._yielding: set[asyncio.Future[Result]] = set()  # of those that wait
        self._hasty: set[asyncio.Future[Result]] = set()  # of those that have a patience
        self._tasks: set[asyncio.Task[None]] = set()
        self._enough = (
            asyncio.Event()
        )  # a request's item has come, or so many steps that wait for no others

    async def put(
        self, item: Item, *, patience: timedelta | None = None, yields: bool = False
    ) -> Result:
        """Hand in an item and wait for its answer.

        An item that still waits after `patience` is taken back; it counts from the arrival of the
        request, which may have waited for the event loop. A caller that goes away does not stop the
        flush: its item is written all the same. `yields`: it is not a request's.

        Raises:
            Overloaded: It was taken back.
            WriteUnknown: It was being written by then, and was not confirmed in time.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[future] = item
        if yields:
            self._yielding.add(future)
        else:
            self._requests.come()
        if not yields or len(self._yielding) == FULL:
            self._enough.set()
        self._wake()
        try:
            return await self._answered(future, patience)
        finally:
            if not yields:
                self._requests.note()  # who asked one thing after the other is back soon

    async def _answered(
        self, future: asyncio.Future[Result], patience: timedelta | None
    ) -> Result:
        if patience is None:
            return await future
        self._hasty.add(future)
        loop, now = asyncio.get_running_loop(), time.monotonic()
        seconds = patience.total_seconds()
        if (arrived := arrived_at.get()) is not None:
            seconds = min(seconds, max(seconds - (now - arrived), SHORTEST_WAIT))
        due = now + seconds  # the loop's own clock stands still while it is busy
        timer = loop.call_later(seconds, self._ask_back, future, due)
        try:
            return await future
        finally:
            timer.cancel()
            self._hasty.discard(future)

    async def close(self) -> None:
        """Wait until everything that was handed in is flushed."""
        while self._tasks:
            await asyncio.wait(self._tasks)  # lets the loop turn even if all have just ended

    def _wake(self) -> None:
        if self._idle:
            self._idle -= 1
            task = asyncio.create_task(self._drain())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _ask_back(self, future: asyncio.Future[Result], due: float, tries: int = 1) -> None:
        """Take an item back, unless it is this loop that was busy, and gave no lane its turn."""
        now = time.monotonic()
        if abs(now - due) > LATE_SECONDS and tries < TRIES:
            again = (future, now + AGAIN_SECONDS, tries + 1)
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._ask_back, *again)
        else:
            self._take_back(future)

    def _take_back(self, future: asyncio.Future[Result]) -> None:
        if future in self._waiting:
            self._forget(future)
            _fail([future], Overloaded("it waited for too long and was taken back"))
        elif not future.done():
            unknown = WriteUnknown("it was not confirmed in time")
            asyncio.get_running_loop().call_later(self._under_way, _fail, [future], unknown)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._pause(self._rest())
                await asyncio.sleep(0)  # callers who are about to come go with this one
                if self._waiting and not self._rest():  # else the other lane has taken all
                    await self._answer({})
        finally:
            self._idle += 1

    def _rest(self) -> float:
        """Return for how many seconds the steps here wait, for others or for requests.

        0 if a request waits here, which takes them along.
        """
        steps = len(self._yielding)
        if not 0 < steps == len(self._waiting):
            return 0
        rest = self._pace.left(self._requests.rest())
        return rest if steps >= FULL else max(rest, self._pace.rest())

    async def _pause(self, seconds: float) -> None:
        """Wait for so long, or until there may be less to wait for."""
        if seconds:
            self._enough.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._enough.wait()

    def _take(self) -> dict[asyncio.Future[Result], Item]:
        chosen = self._without_most() if self._requests.recent() else iter(self._waiting)
        batch = {future: self._waiting[future] for future in islice(chosen, self._limit)}
        if steps := len(self._yielding.intersection(batch)):
            self._pace.note(steps)
        for future in batch:
            self._forget(future)
        return batch

    def _without_most(self) -> Iterator[asyncio.Future[Result]]:
        """Yield what waits, in its order, but only a part of what yields."""
        left = max(FEW, len(self._yielding) // SHARE)
        for future in self._waiting:
            if future not in self._yielding:
                yield future
            elif left:
                left -= 1
                yield future

    def _forget(self, future: asyncio.Future[Result]) -> None:
        del self._waiting[future]
        self._yielding.discard(future)

    async def _answer(self, batch: dict[asyncio.Future[Result], Item]) -> None:
        """Flush a batch; an empty one takes the waiting items once it can be flushed."""
        try:
            async with self._begin() as opened:
                batch = batch or self._take()
                results = await self._flush(opened, list(batch.values())) if batch else ()
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to a caller
            await self._failed(batch or self._take(), error)
            return
        except BaseException:
            _fail(batch or self._take(), InternalError("the process is stopping"))
            raise
        for future, result in zip(batch, results, strict=True):
            if future.done():  # its caller was cancelled
                continue
            if isinstance(result, FleekError):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _failed(self, batch: dict[asyncio.Future[Result], Item], error: Exception) -> None:
        if isinstance(error, Overloaded):  # those who wait would wait for the same
            hasty = [future for future in self._waiting if future in self._hasty]
            for future in hasty:
                self._forget(future)
            _fail(hasty, error)
        if len(batch) <= 1 or isinstance(error, HostError):
            _fail(batch, error)
            return
        items = list(batch.items())
        middle = len(items) // 2
        await self._answer(dict(items[:middle]))
        await self._answer(dict(items[middle:]))


def _fail(futures: Any, error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
