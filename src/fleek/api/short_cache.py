"""Caches for one second, for answers that anybody may request at any rate."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

SECONDS: Final = 1.0
MANY: Final = 10_000  # tokens: a second of the fastest caller


class ShortCache(Generic[T]):
    """One value for all concurrent callers, and for a second after the first call."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._asked_at = 0.0
        self._task: asyncio.Task[T] | None = None

    async def get(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the value of `make`, or its cached value. Errors are not cached."""
        now = asyncio.get_running_loop().time()
        if self._task is None or self._is_over(self._task, now):
            self._asked_at = now
            self._task = asyncio.create_task(make())
        return await asyncio.shield(self._task)

    def _is_over(self, task: asyncio.Task[T], now: float) -> bool:
        if not task.done():
            return False
        failed = task.cancelled() or task.exception() is not None
        return failed or now - self._asked_at >= self._seconds


class NegativeCache:
    """Keys that were not found within the last second."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._until: dict[str, float] = {}  # the oldest first

    def __contains__(self, word: str) -> bool:
        return self._until.get(word, 0.0) > asyncio.get_running_loop().time()

    def add(self, word: str) -> None:
        """Add a key."""
        self._until.pop(word, None)
        if len(self._until) >= MANY:
            del self._until[next(iter(self._until))]
        self._until[word] = asyncio.get_running_loop().time() + self._seconds
