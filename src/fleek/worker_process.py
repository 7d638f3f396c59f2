"""The worker as a process of its own beside the API: `fleek serve` starts it, and again if it ends.

A pipe connects the two. A line on it wakes the worker: there is a new job. The system closes it
when the API's process ends, however that happens, and then the worker stops: no orphan is left.
"""

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog

from fleek.domain.errors import ConfigurationError
from fleek.engine.runtime import Runtime
from fleek.settings import Settings
from fleek.store.address import database_url
from fleek.store.pools import sqlite_is_safe

FIRST_PAUSE: Final = 1.0  # seconds before the first restart; doubled with each further one
LONGEST_PAUSE: Final = 30.0
SOUND_SECONDS: Final = 60.0  # a process that ran for so long is restarted as if it were the first
STOP_SECONDS: Final = 20.0  # for the worker to stop; less than the API's process has itself
WAKE_SECONDS: Final = 0.02  # between two wake-ups, at least
QUIET_SECONDS: Final = 3600.0  # without a new job, until a wake-up that is not needed

log = structlog.get_logger(__name__)


def check_worker_process(settings: Settings) -> None:
    """Make sure that a worker process may run beside the API.

    Raises:
        ConfigurationError: With these settings it may not; the message says what to do.
    """
    if settings.dispatch != "embedded":
        raise ConfigurationError(
            f"WORKER_PROCESS: DISPATCH={settings.dispatch} has workers of its own: start fleek worker"
        )
    if (
        database_url(settings.database_url).drivername.startswith("sqlite")
        and not sqlite_is_safe()
    ):
        raise ConfigurationError(
            "WORKER_PROCESS: two processes can corrupt a file of SQLite before 3.51.3: use PostgreSQL, "
            "a newer SQLite, or no worker process"
        )


async def supervise(rt: Runtime, stop: asyncio.Event, force: asyncio.Event) -> None:
    """Keep a worker process running until `stop` is set, then end it; `force` ends it at once."""
    pause = FIRST_PAUSE
    while not stop.is_set():
        began = rt.steady()
        reason = await _run(rt, stop, force)
        if stop.is_set():
            return
        if rt.steady() - began > SOUND_SECONDS:
            pause = FIRST_PAUSE
        log.error("worker_process_ended", reason=reason, restart_seconds=pause)
        await _first(stop.wait(), seconds=pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def _run(rt: Runtime, stop: asyncio.Event, force: asyncio.Event) -> str:
    """Run a worker process until it ends or is to stop; returns why it ended."""
    try:
        program = await asyncio.create_subprocess_exec(
            *_command(rt.settings), stdin=asyncio.subprocess.PIPE
        )
    except OSError as error:
        return f"it cannot be started: {error.strerror}"
    assert program.stdin is not None
    log.info("worker_process_started", pid=program.pid)
    waking = asyncio.create_task(_wake(rt, program.stdin))
    try:
        await _first(program.wait(), stop.wait())
        if program.returncode is None:
            program.terminate()
            await _first(program.wait(), force.wait(), seconds=STOP_SECONDS)
    finally:
        waking.cancel()
        if program.returncode is None:
            program.kill()  # as safe as any crash
        await program.wait()
    code = program.returncode
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _command(settings: Settings) -> Sequence[str]:
    """Return the command; it reads the same settings, and is told those of the command line."""
    address = ("--host", settings.api_host, "--port", str(settings.api_port))
    return (sys.executable, "-m", "fleek", "worker", "--attached", *address)


async def _wake(rt: Runtime, pipe: asyncio.StreamWriter) -> None:
    """Wake the worker for new jobs; else it would find them up to a second later."""
    with suppress(ConnectionError), rt.wakeups.listen("admit") as bell:
        while True:
            await bell.wait(seconds=QUIET_SECONDS)
            pipe.write(b"\n")
            await pipe.drain()
            await asyncio.sleep(WAKE_SECONDS)


async def _first(*waits: Coroutine[Any, Any, object], seconds: float | None = None) -> None:
    """Return when one of these is over, or after so many seconds."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
