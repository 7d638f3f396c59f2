"""Reads for those who follow jobs: one for all of them, as soon as there is something new."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from fleek.engine.loops import run_logged
from fleek.engine.runtime import Runtime

POLL_SECONDS: Final = 0.25  # until a change by another process is noticed
FAILED_SECONDS: Final = 1.0  # after a read that failed
REST_SECONDS: Final = 0.005  # between two reads, at least: what comes meanwhile is sent together
LONGEST_REST_SECONDS: Final = 0.05
RESTS: Final = 6  # rest so much longer than a read and its sending took: the rest is for jobs


async def read_in_turns(
    rt: Runtime, read: Callable[[], Awaitable[bool]], *, followed: Callable[[], bool]
) -> None:
    """Read, and again after each change that this process makes, for as long as anybody follows.

    `read` returns whether there is more to be read. The first change after a quiet time is read at once.
    """
    with rt.wakeups.listen("events") as changed:
        while followed():
            began = time.monotonic()
            more = await run_logged(rt, "events", read)
            await asyncio.sleep(REST_SECONDS)  # and streams send: late, if they are many
            took = time.monotonic() - began - REST_SECONDS
            rest = (
                LONGEST_REST_SECONDS if more is None else min(RESTS * took, LONGEST_REST_SECONDS)
            )
            await asyncio.sleep(max(rest, 0))
            if not more:
                await changed.wait(seconds=FAILED_SECONDS if more is None else POLL_SECONDS)
