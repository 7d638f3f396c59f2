"""Loops and tasks: their failures are logged and counted, and here alone any error is caught."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import structlog

from fleek.domain.errors import FleekError
from fleek.domain.job import JobId

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime

Topic = Literal[
    "admit",
    "watch",
    "recover",
    "expire",
    "sweep",
    "deliver",
    "events",
    "bulk",
    "chain",
    "failover",
    "thumbnails",
    "outlook",
]


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


class Links:
    """Whether jobs may wait for the output of others, as far as this process knows.

    While none does, the end of a job is no reason to look for them. Those that other processes submit
    are found by the coordinator's looks.
    """

    def __init__(self) -> None:
        self.expected = True


T = TypeVar("T")

log = structlog.get_logger(__name__)

REST_SECONDS: Final = 0.02  # between two turns of a loop, at least
LONGEST_REST_SECONDS: Final = 0.2
RESTS: Final = 2  # rest so much longer than the turn took: loops leave most of the time to jobs


async def run_logged(
    rt: "Runtime",
    name: str,
    work: Callable[[], Awaitable[T]],
    *,
    job_id: JobId | None = None,
) -> T | None:
    """Run one task of a worker or one turn of a loop; log and count whatever it raises.

    Returns None if it failed. The job, if any, is freed or tried again by the loops. `work` is called
    only when this runs: a coroutine made before would be left behind if this is cancelled earlier.
    """
    try:
        result = await work()
    except FleekError as error:
        rt.metrics.failures.labels(name).inc()
        log.warning(
            "task_failed",
            task=name,
            job_id=job_id and str(job_id),
            code=error.code,
            reason=str(error),
        )
        return None
    except Exception:
        rt.metrics.failures.labels(name).inc()
        log.exception("task_crashed", task=name, job_id=job_id and str(job_id))
        return None
    return result


async def loop(
    rt: "Runtime",
    topic: Topic,
    turn: Callable[[], Awaitable[timedelta]],
    *,
    patience: timedelta,
    name: str | None = None,
    rest: Callable[[Topic, timedelta], timedelta] = lambda _topic, wait: wait,
) -> None:
    """Take turns for ever; each says how long to wait unless the bell rings.

    A failed turn is followed by another after `patience`. Endless notifications cost a third of
    the time at most, not a turn each; the first one after a quiet time takes effect at once.
    `name` is the loop's name in logs and metrics, if several loops have one topic. `rest` is given the
    topic and the wait of a turn, and may prolong it.
    """
    name = name or topic
    with rt.wakeups.listen(topic) as bell:
        await _turns(rt, name, turn, bell, patience=patience, rest=partial(rest, topic))


async def _turns(
    rt: "Runtime",
    name: str,
    turn: Callable[[], Awaitable[timedelta]],
    bell: Bell,
    *,
    patience: timedelta,
    rest: Callable[[timedelta], timedelta],
) -> None:
    while True:
        began = time.monotonic()
        wait = await run_logged(rt, name, turn)
        rt.metrics.turns.labels(name).inc()
        if wait is None:
            await asyncio.sleep(patience.total_seconds())
            continue
        rt.metrics.last_success.labels(name).set(rt.now().timestamp())
        took = time.monotonic() - began
        pause = min(max(RESTS * took, REST_SECONDS), LONGEST_REST_SECONDS)
        await asyncio.sleep(pause)
        await bell.wait(seconds=max(rest(wait).total_seconds() - pause, 0.001))


class ShieldedTasks:
    """Tasks that must finish during shutdown because they spend money."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`; cancelling the caller does not cancel it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` beside the caller."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def __len__(self) -> int:
        return len(self._tasks)

    async def finish(self, *, seconds: float) -> None:
        """Wait for running tasks, at most so long; then cancel the rest."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
