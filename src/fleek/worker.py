"""A worker process: consumes ids, writes heartbeats, and coordinates while it leads."""

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

import structlog

from fleek import failpoints, process, registry
from fleek.bootstrap import open_runtime
from fleek.dispatch.base import Handler, Reported, Task, UnknownJob
from fleek.domain.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    FleekError,
    HostError,
    NotFound,
)
from fleek.domain.job import JobId
from fleek.engine import media_links
from fleek.engine.collect import collect
from fleek.engine.coordinator import coordinate, release_leadership
from fleek.engine.loops import loop, run_logged
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.throttle import refresh_pauses
from fleek.environment import read
from fleek.settings import Settings
from fleek.store.database import reach
from fleek.store.migrate import up_to_date
from fleek.telemetry import configure_logging

DRAIN_SECONDS: Final = 7.0  # for starts of predictions under way at SIGTERM
STOP_SECONDS: Final = 25.0  # before a process that does not stop is ended
RETRY_SECONDS: Final = 1.0  # between two tries of a step of the start
SCHEMA_SECONDS: Final = 0.5  # between two looks for the migrated schema
LINES_BYTES: Final = 4096  # of what the API has written since the last look
MIGRATION_PATIENCE: Final = timedelta(seconds=60)
COURTESY: Final = 10  # of 19: whoever waits for the API beside this worker comes first

T = TypeVar("T")
Verb = Callable[[Runtime, JobId], Awaitable[None]]

log = structlog.get_logger(__name__)


def run_worker(settings: Settings, *, attached: bool = False) -> None:
    """Run a worker until SIGTERM or SIGINT, in its own event loop or in the broker's command.

    An `attached` one has been started by `fleek.worker_process`, and stops with that process, too. Where
    both want the same core, it takes what is left: else callers get an eighth fewer answers.

    Raises:
        ConfigurationError: A setting is wrong, or the schema is not migrated in time.
        SystemExit: The broker's command has ended, with its exit code.
    """
    process.prepare()
    if attached:
        os.nice(COURTESY)
    commands = registry.worker_commands()
    if settings.dispatch in commands:
        run = registry.load(commands, settings.dispatch, setting="DISPATCH")
        run(concurrency=settings.worker_concurrency)
        return
    configure_logging(level=settings.log_level, style=settings.log_format)
    with stopping() as begin:
        asyncio.run(_run(settings, begin, attached=attached))


@contextmanager
def stopping() -> Generator[Callable[[], None]]:
    """Yield a function to call at SIGTERM: it ends the process if the block takes too long.

    A frozen database would delay the shutdown for minutes. Ending the process is as safe as any
    crash.
    """
    timer = threading.Timer(STOP_SECONDS, _give_up)
    timer.daemon = True
    try:
        yield lambda: None if timer.ident else timer.start()  # once
    finally:
        timer.cancel()


def _give_up() -> None:
    log.error("not_stopped_in_time", seconds=STOP_SECONDS)
    os._exit(1)


async def _run(settings: Settings, begin: Callable[[], None], *, attached: bool) -> None:
    stop = asyncio.Event()

    def on_signal() -> None:
        begin()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    async with open_runtime(settings) as rt:
        if attached:
            _follow_api(rt, on_signal)
        ready = asyncio.create_task(wait_for_schema(rt, patience=MIGRATION_PATIENCE))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([ready, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ready.done():  # SIGTERM while waiting
            ready.cancel()
            return
        ready.result()
        tune_gc()
        async with _showing_metrics(rt):
            await work(rt, stop)


def _follow_api(rt: Runtime, on_end: Callable[[], None]) -> None:
    """Look for new jobs when the API says so on stdin, and stop when it is closed: its process has ended."""
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def on_line() -> None:
        if os.read(stdin, LINES_BYTES):
            rt.wakeups.notify("admit")
        else:
            loop.remove_reader(stdin)
            on_end()

    loop.add_reader(stdin, on_line)


@asynccontextmanager
async def _showing_metrics(rt: Runtime) -> AsyncGenerator[None]:
    """Serve the metrics of this process while the block runs, if there is a port for them."""
    port = rt.settings.worker_metrics_port
    if port is None:
        yield
        return
    from fleek.api.worker_metrics import serve_worker_metrics  # noqa: PLC0415 - seldom used

    async with serve_worker_metrics(rt, port):
        yield


def tune_gc() -> None:
    """Exclude all current objects from garbage collection, and collect less often.

    Requests create many objects and few cycles: with the default thresholds, collection takes a
    quarter of the time of a submission.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


async def wait_for_schema(rt: Runtime, *, patience: timedelta) -> None:
    """Wait until the database can be used and its schema has been migrated.

    `patience` bounds only the wait for the migration.

    Raises:
        ConfigurationError: The schema was not migrated in time, or is newer than this program; or
            the database refuses for good: wrong user, password or name.
    """
    await await_database(rt, unreachable_is_temporary=True)
    missing_since: float | None = None
    while not await until_available(partial(up_to_date, rt.db)):
        if missing_since is None:
            missing_since = rt.steady()
            print("waiting for the database schema: run fleek migrate", file=sys.stderr)  # noqa: T201 - one line for the operator
        elif rt.steady() - missing_since > patience.total_seconds():
            raise ConfigurationError(
                "DATABASE_URL: the schema is not up to date; run fleek migrate or fleek serve"
            )
        await asyncio.sleep(SCHEMA_SECONDS)


async def await_database(rt: Runtime, *, unreachable_is_temporary: bool = False) -> None:
    """Wait while the database refuses temporarily; see `fleek.store.database.reach`.

    Raises:
        ConfigurationError: It refuses for good.
    """
    await until_available(partial(reach, rt.db, unreachable_is_temporary=unreachable_is_temporary))


async def until_available(step: Callable[[], Awaitable[T]]) -> T:
    """Repeat a step of the start until the parts of this installation are available for it.

    Each new reason is logged once.
    """
    reason = ""
    while True:
        try:
            return await step()
        except HostError as error:
            if str(error) != reason:
                reason = str(error)
                unreachable = isinstance(error, DatabaseUnavailable)
                log.warning(
                    "database_unreachable" if unreachable else "start_delayed", reason=reason
                )
        await asyncio.sleep(RETRY_SECONDS)


@asynccontextmanager
async def open_attached_worker(
    *, dispatch: str, concurrency: int
) -> AsyncGenerator[Mapping[Task, Handler]]:
    """Run a worker in a process that receives ids by other means; yields the handlers.

    Settings are read from the environment, except for `dispatch`, which is the caller's name in
    the registry, and `concurrency`, the number of handlers that the caller runs at once. Leaving
    drains, as `work` does.

    Raises:
        ConfigurationError: A setting is wrong, or the schema is not migrated in time.
    """
    process.prepare()
    settings = read(Settings, dispatch=dispatch, worker_concurrency=concurrency)
    async with open_runtime(settings) as rt:
        await wait_for_schema(rt, patience=MIGRATION_PATIENCE)
        tune_gc()
        async with _showing_metrics(rt), _working(rt) as handlers:
            yield handlers


async def work(rt: Runtime, stop: asyncio.Event) -> None:
    """Work until `stop` is set, then drain.

    New work is refused at once, starts of predictions under way are finished, and jobs that are
    still held are freed without counting a crash.
    """
    async with _working(rt) as handlers:
        consuming = asyncio.create_task(
            rt.dispatcher.consume(handlers, concurrency=rt.settings.worker_concurrency)
        )
        stopped = asyncio.create_task(_until(stop))
        try:
            await asyncio.wait([stopped, consuming], return_when=asyncio.FIRST_COMPLETED)
            if consuming.done():
                consuming.result()
        finally:
            consuming.cancel()
            stopped.cancel()
            await asyncio.gather(consuming, stopped, return_exceptions=True)


@asynccontextmanager
async def _working(rt: Runtime) -> AsyncGenerator[Mapping[Task, Handler]]:
    """Run all parts of a worker except the consumer; yields one handler per task.

    If a part ends by itself, the caller is cancelled and the part's error is raised here.
    """
    await _register(rt)
    caller = asyncio.current_task()
    assert caller is not None
    parts = [
        asyncio.create_task(part)
        for part in (coordinate(rt), _heartbeat_loop(rt), keep_time(rt), _thumbnail_loop(rt))
    ]

    def give_up(_ended: asyncio.Task[None]) -> None:
        caller.cancel()

    for part in parts:
        part.add_done_callback(give_up)
    broken: list[asyncio.Task[None]] = []
    try:
        yield {
            "start": partial(_handle, rt, "start", start),
            "collect": partial(_handle, rt, "collect", collect),
        }
    finally:
        log.info("worker_stopping")
        failpoints.hit("worker.stop")
        broken += [part for part in parts if part.done()]
        for part in parts:
            part.remove_done_callback(give_up)
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        await _drain(rt)
        await _leave(rt)
        for part in broken:
            caller.uncancel()
            part.result()


async def _register(rt: Runtime) -> None:
    """Register as a worker, once the database allows it."""
    await until_available(rt.clock.set)
    await until_available(rt.lease.register)
    await until_available(partial(media_links.prepare, rt))


async def _drain(rt: Runtime) -> None:
    await asyncio.gather(
        rt.shielded.finish(seconds=DRAIN_SECONDS),
        rt.cancels.tasks.finish(seconds=DRAIN_SECONDS),
    )
    failpoints.hit("worker.drained")


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


async def _leave(rt: Runtime) -> None:
    await release_leadership(rt)
    try:
        await rt.lease.end()
    except FleekError as error:
        log.warning("worker_end_not_saved", reason=str(error))


async def _handle(rt: Runtime, name: Task, verb: Verb, job_id: JobId) -> None:
    """Run a task; its error is logged and counted here, and then raised for the dispatcher."""
    error: Exception | None = None

    async def attempt() -> None:
        """Run the task, and note its error for the dispatcher; raises others than `NotFound`."""
        nonlocal error
        try:
            await verb(rt, job_id)
        except NotFound as unknown:
            error = UnknownJob(str(unknown))
        except Exception as failure:
            error = Reported(f"{type(failure).__name__}: {failure}")
            raise

    await run_logged(rt, name, attempt, job_id=job_id)
    if error is not None:
        raise error


async def keep_time(rt: Runtime) -> None:
    """Set the clock to the database's time with each heartbeat, for ever."""
    while True:
        await asyncio.sleep(rt.lease.heartbeat.total_seconds())
        await run_logged(rt, "clock", rt.clock.set)


async def _thumbnail_loop(rt: Runtime) -> None:
    await loop(
        rt, "thumbnails", partial(rt.thumbnails.make_next, rt), patience=timedelta(seconds=1)
    )


async def _heartbeat_loop(rt: Runtime) -> None:
    while True:
        await asyncio.sleep(rt.lease.heartbeat.total_seconds())
        await run_logged(rt, "heartbeat", rt.lease.beat)
        await run_logged(rt, "pace", partial(refresh_pauses, rt))
        await run_logged(rt, "media_links", partial(media_links.prepare, rt))
