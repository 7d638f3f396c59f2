"""The HTTP API, and a worker: in the same process, in one beside it, or none."""

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

import structlog
import uvicorn
import uvloop

from fleek import __version__, process
from fleek.app import create_app
from fleek.bootstrap import open_runtime
from fleek.domain.errors import ConfigurationError
from fleek.engine.access import check_exposure
from fleek.front.acceptor import Acceptor
from fleek.front.protocol import Front, GuardedProtocol
from fleek.settings import Settings
from fleek.store.migrate import migrate
from fleek.telemetry import configure_logging
from fleek.worker import await_database, keep_time, stopping, tune_gc, until_available, work
from fleek.worker_process import check_worker_process, supervise

GRACE_SECONDS: Final = 5  # for requests under way when told to stop
DATE_SECONDS: Final = 1  # of the header Date
BACKLOG: Final = 8192  # connections that wait to be accepted; the system may allow fewer

log = structlog.get_logger(__name__)


def serve(settings: Settings, *, with_worker: bool) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends it at once. Runs a loop of its own.

    Raises:
        ConfigurationError: A setting is wrong, or the port is taken.
    """
    process.prepare()
    if with_worker and settings.worker_process:
        check_worker_process(settings)
    configure_logging(level=settings.log_level, style=settings.log_format)
    with (
        stopping() as begin,
        _listen(settings) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(settings, listener, begin, with_worker=with_worker))


class _Server(uvicorn.Server):
    """Leaves signals to us, as the worker has to hear them too; accepts connections our way."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event) -> None:
        super().__init__(config)
        self._stop = stop  # set whenever `should_exit` is
        self._acceptors: list[Acceptor] = []

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Do nothing."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where the service is, once it listens."""
        await super().startup(sockets=[])
        for listener in sockets or []:
            listener.listen(BACKLOG)
            self._acceptors.append(Acceptor(listener, self._protocol))
        base = self.config.app.state.runtime.settings.public_base  # type: ignore[union-attr]  # ours
        print(f"Fleek {__version__} is ready: {base}/  API docs: {base}/docs", flush=True)  # noqa: T201 - for whoever started it

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(
            config=self.config,  # type: ignore[call-arg]  # the library's protocols take these
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )

    async def main_loop(self) -> None:
        """Renew the date of responses once a second; the library also wakes nine times to look at a flag."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(DATE_SECONDS):
                    await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - the acceptors close them
        """Answer all requests that wait for something, then end."""
        for acceptor in self._acceptors:
            acceptor.close()
        self.config.app.state.hub.close()  # type: ignore[union-attr]  # ours
        self.config.app.state.streams.close()  # type: ignore[union-attr]  # ours
        await super().shutdown()
        self.config.app.state.admin_refusals.close()  # type: ignore[union-attr]  # ours


async def _serve(
    settings: Settings,
    listener: socket.socket,
    begin: Callable[[], None],
    *,
    with_worker: bool,
) -> None:
    stop, force = asyncio.Event(), asyncio.Event()
    works_here = with_worker and not settings.worker_process
    async with open_runtime(settings) as rt:
        await await_database(rt)
        await until_available(partial(migrate, rt.db))
        await until_available(partial(check_exposure, rt))
        await until_available(rt.clock.set)
        await rt.capacity.look()
        tune_gc()
        server = _Server(_config(settings, create_app(rt)), stop)
        _on_signals(server, stop, force, begin)
        tasks = [asyncio.create_task(server.serve(sockets=[listener]))]
        timekeeper = None if works_here else asyncio.create_task(keep_time(rt))
        if with_worker:
            worker = work(rt, stop) if works_here else supervise(rt, stop, force)
            tasks.append(asyncio.create_task(worker))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            server.should_exit = True
            stop.set()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            if timekeeper is not None:
                timekeeper.cancel()
                await asyncio.wait([timekeeper])
        for result in ended:
            if isinstance(result, BaseException):
                raise result
    log.info("stopped")


def _config(settings: Settings, app: Any) -> uvicorn.Config:
    refusals = app.state.runtime.metrics.http_refusals
    front = Front(
        settings, refusals=refusals, writes=app.state.write_limits, forms=app.state.error_forms
    )
    return uvicorn.Config(
        app,
        http=partial(GuardedProtocol, front),  # type: ignore[arg-type]  # whatever makes a protocol
        ws="none",
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        proxy_headers=False,  # nothing here asks for the caller's address
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=True,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _on_signals(
    server: uvicorn.Server, stop: asyncio.Event, force: asyncio.Event, begin: Callable[[], None]
) -> None:
    def on_signal() -> None:
        """Stop, answering what is under way; at the second signal without that."""
        begin()
        if stop.is_set():
            server.force_exit = True
            force.set()
        server.should_exit = True
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


def _listen(settings: Settings) -> socket.socket:
    """Take the port before anything else is opened."""
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.api_host, settings.api_port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"API_PORT={settings.api_port}: cannot listen on {settings.api_host}: {error.strerror}"
        ) from error
    return listener
