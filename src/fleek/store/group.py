"""One commit for many callers.

A transaction costs a wait for the disk however little it writes. So callers that come while one
is under way wait together, and the next transaction takes them all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from fleek.domain.errors import FleekError, HostError, InternalError

Item = TypeVar("Item")
Result = TypeVar("Result")

Flush = Callable[[Sequence[Item]], Awaitable[Sequence[Result | FleekError]]]
"""Does the work for all items at once, or for none: one answer for each, in their order."""


class Group(Generic[Item, Result]):
    """Gathers the items of concurrent callers and flushes them together.

    ``lanes`` flushes may run at once, each with at most ``limit`` items. A `HostError` concerns
    all callers alike. After any other error the items are flushed in halves, and halves of these,
    so that in the end only the callers of bad items hear of it.
    """

    def __init__(self, flush: Flush[Item, Result], *, lanes: int = 1, limit: int = 500) -> None:
        self._flush = flush
        self._idle = lanes
        self._limit = limit
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, item: Item) -> Result:
        """Hand in an item and wait for its answer.

        A caller that goes away does not stop the flush: its item is written all the same.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._idle:
            self._idle -= 1
            task = asyncio.create_task(self._drain())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def close(self) -> None:
        """Wait until everything that was handed in is flushed."""
        while self._tasks:
            await asyncio.wait(self._tasks)  # lets the loop turn even if all have just ended

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # callers who are about to come go with this one
                batch = self._waiting[: self._limit]
                del self._waiting[: self._limit]
                if batch:  # else the other lane has taken all
                    await self._answer(batch)
        finally:
            self._idle += 1

    async def _answer(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to a caller
            if len(batch) == 1 or isinstance(error, HostError):
                _fail(batch, error)
                return
            middle = len(batch) // 2
            await self._answer(batch[:middle])
            await self._answer(batch[middle:])
            return
        except BaseException:
            _fail(batch, InternalError("the process is stopping"))
            raise
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():  # its caller has gone away
                continue
            if isinstance(result, FleekError):
                future.set_exception(result)
            else:
                future.set_result(result)


def _fail(batch: Sequence[tuple[Any, asyncio.Future[Any]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
