"""A worker: consume, say that it is alive, and coordinate if it is its turn."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from fleek import failpoints
from fleek.bootstrap import open_runtime
from fleek.dispatch.base import Handler, Task
from fleek.domain.errors import ConfigurationError, DatabaseUnavailable, FleekError
from fleek.domain.job import JobId
from fleek.engine.collect import collect
from fleek.engine.coordinator import coordinate, resign
from fleek.engine.pace import refresh
from fleek.engine.runtime import Runtime, guarded
from fleek.engine.start import start
from fleek.settings import Settings
from fleek.store.database import reach
from fleek.store.migrate import up_to_date
from fleek.telemetry import configure_logging

DRAIN_SECONDS: Final = 7.0  # for purchases under way when told to stop
MIGRATION_PATIENCE: Final = timedelta(seconds=60)

Verb = Callable[[Runtime, JobId], Awaitable[None]]

log = structlog.get_logger(__name__)


def run_worker(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT. Runs an event loop of its own.

    Raises:
        ConfigurationError: A setting is wrong, or nobody migrates the schema.
    """
    configure_logging(level=settings.log_level, style=settings.log_format)
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_runtime(settings) as rt:
        await await_schema(rt, patience=MIGRATION_PATIENCE)
        spare_the_collector()
        await work(rt, stop)


def spare_the_collector() -> None:
    """Leave what is open now alone for good, and look for garbage less often.

    Requests make many objects and few cycles: looking for cycles at the default pace takes a
    quarter of the time of a submission.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


async def await_schema(rt: Runtime, *, patience: timedelta) -> None:
    """Wait until somebody has migrated the schema.

    Raises:
        ConfigurationError: Nobody has, for so long; or the schema is newer than this program.
    """
    said = False
    try:
        async with asyncio.timeout(patience.total_seconds()):
            while not await _ready(rt):
                if not said:
                    print("waiting for the database schema: run fleek migrate", file=sys.stderr)  # noqa: T201 - one line for the operator
                    said = True
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise ConfigurationError(
            "DATABASE_URL: the schema is not up to date; run fleek migrate or fleek serve"
        ) from None


async def _ready(rt: Runtime) -> bool:
    try:
        await reach(rt.db)
        return await up_to_date(rt.db)
    except DatabaseUnavailable:  # it starts, stops or migrates just now
        return False


async def work(rt: Runtime, stop: asyncio.Event) -> None:
    """Work until `stop` is set, then leave nothing half done.

    New work is refused at once, purchases under way are seen through, and what is still held is
    given back without being counted.
    """
    await rt.set_clock()
    await rt.pulse.register()
    handlers: dict[Task, Handler] = {
        "start": partial(_handle, rt, "start", start),
        "collect": partial(_handle, rt, "collect", collect),
    }
    tasks: list[asyncio.Task[None]] = [
        asyncio.create_task(part)
        for part in (
            rt.dispatcher.consume(handlers, concurrency=rt.settings.worker_concurrency),
            coordinate(rt),
            _beat(rt),
        )
    ]
    stopped = asyncio.create_task(_until(stop))
    try:
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        log.info("worker_stopping")
        failpoints.hit("worker.stop")
        for task in (*tasks, stopped):
            task.cancel()
        await asyncio.gather(*tasks, stopped, return_exceptions=True)
        await rt.duties.finish(seconds=DRAIN_SECONDS)
        failpoints.hit("worker.drained")
        await _leave(rt)


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


async def _leave(rt: Runtime) -> None:
    await resign(rt)
    try:
        await rt.pulse.end()
    except FleekError as error:
        log.warning("worker_not_ended", reason=str(error))


async def _handle(rt: Runtime, name: Task, verb: Verb, job_id: JobId) -> None:
    await guarded(rt, name, verb(rt, job_id), job_id=job_id)


async def _beat(rt: Runtime) -> None:
    while True:
        await asyncio.sleep(rt.pulse.heartbeat.total_seconds())
        await guarded(rt, "clock", rt.set_clock())
        await guarded(rt, "heartbeat", rt.pulse.beat())
        await guarded(rt, "pace", refresh(rt))
