"""Wake-ups of the coordinator's loops."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Topic = Literal["admit", "watch", "recover", "expire", "sweep"]


class Bell:
    """Wakes one loop before its time."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake the loop; a busy one takes another turn afterwards."""
        self._event.set()

    async def wait(self, *, seconds: float) -> None:
        """Wait for the next notification, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()


class Wakeups:
    """Wakes the loops of this process; several may listen to one topic."""

    def __init__(self) -> None:
        self._listening: dict[Topic, list[Bell]] = defaultdict(list)

    def notify(self, topic: Topic) -> None:
        """Wake the loops of a topic: there is something to do."""
        for bell in self._listening[topic]:
            bell.notify()

    @contextmanager
    def listen(self, topic: Topic) -> Iterator[Bell]:
        """Give a bell for this topic."""
        bell = Bell()
        self._listening[topic].append(bell)
        try:
            yield bell
        finally:
            self._listening[topic].remove(bell)
