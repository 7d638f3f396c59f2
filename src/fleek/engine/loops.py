"""Loops and tasks whose failures are logged and counted: the one place where any error is caught."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar

import structlog

from fleek.domain.errors import FleekError
from fleek.domain.job import JobId
from fleek.engine.runtime import Runtime
from fleek.engine.wakeups import Bell, Topic

T = TypeVar("T")

log = structlog.get_logger(__name__)

REST_SECONDS: Final = 0.02  # between two turns of a loop, at least
LONGEST_REST_SECONDS: Final = 0.2
RESTS: Final = 2  # rest so much longer than the turn took: loops leave most of the time to jobs


async def run_logged(
    rt: Runtime, name: str, work: Awaitable[T], *, job_id: JobId | None = None
) -> T | None:
    """Run one task of a worker or one turn of a loop; log and count whatever it raises.

    Returns None if it failed. The job, if any, is freed or tried again by the loops.
    """
    try:
        result = await work
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
    rt: Runtime,
    topic: Topic,
    turn: Callable[[], Awaitable[timedelta]],
    *,
    patience: timedelta,
    name: str | None = None,
) -> None:
    """Take turns for ever; each says how long to wait unless the bell rings.

    A failed turn is followed by another after `patience`. Endless notifications cost a third of
    the time at most, not a turn each; the first one after a quiet time takes effect at once.
    `name` is the loop's name in logs and metrics, if several loops have one topic.
    """
    name = name or topic
    with rt.wakeups.listen(topic) as bell:
        await _turns(rt, name, turn, bell, patience=patience)


async def _turns(
    rt: Runtime,
    name: str,
    turn: Callable[[], Awaitable[timedelta]],
    bell: Bell,
    *,
    patience: timedelta,
) -> None:
    while True:
        began = time.monotonic()
        wait = await run_logged(rt, name, turn())
        rt.metrics.turns.labels(name).inc()
        if wait is None:
            await asyncio.sleep(patience.total_seconds())
            continue
        rt.metrics.last_success.labels(name).set(rt.now().timestamp())
        took = time.monotonic() - began
        rest = min(max(RESTS * took, REST_SECONDS), LONGEST_REST_SECONDS)
        await asyncio.sleep(rest)
        await bell.wait(seconds=max(wait.total_seconds() - rest, 0.001))
