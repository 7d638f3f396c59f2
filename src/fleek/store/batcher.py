"""One commit for many callers.

A transaction costs a wait for the disk however little it writes. So callers that come while one
is under way wait together, and the next transaction takes them all. What waits can still be taken
back: a batch is made up only when its transaction is open.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
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

arrived_at: ContextVar[float | None] = ContextVar("arrived_at", default=None)
"""When the request arrived for which this task runs (monotonic seconds); None: no request."""


class Batcher(Generic[Item, Result]):
    """Gathers the items of concurrent callers and flushes them together.

    ``lanes`` flushes may run at once, each with at most ``limit`` items. A `HostError` concerns
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
    ) -> None:
        self._begin = begin
        self._flush = flush
        self._idle = shards
        self._limit = limit
        self._under_way = under_way.total_seconds()
        self._waiting: dict[asyncio.Future[Result], Item] = {}  # in the order of their arrival
        self._hasty: set[asyncio.Future[Result]] = set()  # of those that have a patience
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, item: Item, *, patience: timedelta | None = None) -> Result:
        """Hand in an item and wait for its answer.

        An item that still waits after `patience` is taken back; it counts from the arrival of the
        request, which may have waited for the event loop. A caller that goes away does not stop the
        flush: its item is written all the same.

        Raises:
            Overloaded: It was taken back.
            WriteUnknown: It was being written by then, and was not confirmed in time.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting[future] = item
        self._wake()
        if patience is None:
            return await future
        self._hasty.add(future)
        now = time.monotonic()
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
            del self._waiting[future]
            _fail([future], Overloaded("it waited for too long and was taken back"))
        elif not future.done():
            unknown = WriteUnknown("it was not confirmed in time")
            asyncio.get_running_loop().call_later(self._under_way, _fail, [future], unknown)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # callers who are about to come go with this one
                if self._waiting:  # else the other lane has taken all
                    await self._answer({})
        finally:
            self._idle += 1

    def _take(self) -> dict[asyncio.Future[Result], Item]:
        batch = dict(islice(self._waiting.items(), self._limit))
        for future in batch:
            del self._waiting[future]
        return batch

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
                del self._waiting[future]
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
