"""Runs the emulator: on a port until SIGTERM, or inside another program."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fleek.emulator import comfyui, fal, openai, replicate
from fleek.emulator.account import Account
from fleek.emulator.app import create_app, create_delivery
from fleek.emulator.callbacks import Callbacks
from fleek.emulator.ledger import Ledger
from fleek.emulator.plan import Plan
from fleek.emulator.responses import TRANSPORT

LOOPBACK: Final = "127.0.0.1"
SYNC_SECONDS: Final = 0.05
DIALECTS: Final = {
    dialect.name: dialect
    for dialect in (replicate.DIALECT, openai.DIALECT, comfyui.DIALECT, fal.DIALECT)
}


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with access to the connection for the injection of faults."""

    def on_message_begin(self) -> None:
        """Store the transport in the scope's extensions."""
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator."""

    account: Account
    base_url: str  # without a path, e.g. http://127.0.0.1:9009
    delivery_url: str  # scheme and host of output files

    @property
    def api_url(self) -> str:
        """The value of `REPLICATE_BASE_URL` for Fleek, with `/v1`."""
        return f"{self.base_url}/v1"

    @property
    def openai_url(self) -> str:
        """The value of `OPENAI_BASE_URL`."""
        return f"{self.base_url}/openai/v1"

    @property
    def comfyui_url(self) -> str:
        """The value of `COMFYUI_URL`."""
        return f"{self.base_url}/comfyui"

    @property
    def fal_url(self) -> str:
        """The value of `FAL_QUEUE_URL`, `FAL_REST_URL` and `FAL_CDN_URL`."""
        return f"{self.base_url}/fal"

    @property
    def fal_jwks_url(self) -> str:
        """The value of `FAL_JWKS_URL`."""
        return f"{self.base_url}/fal{fal.JWKS}"

    @property
    def ledger(self) -> Ledger:
        """The rows of requests, callbacks and downloads; see `totals()` for the sums."""
        return self.account.ledger

    def totals(self) -> dict[str, Any]:
        """Return the number of predictions and their cost."""
        return self.account.totals()

    def replan(self, **changes: Any) -> None:
        """Change parts of the plan."""
        plan = self.account.plan.model_dump() | changes
        self.account.plan = Plan.model_validate(plan)


@asynccontextmanager
async def serve(
    plan: Plan | None = None,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    delivery_port: int | None = None,
    ledger: Path | None = None,
) -> AsyncGenerator[Emulator]:
    """Run the emulator in this event loop.

    Args:
        plan: The configuration; None: no faults, and predictions take up to 2 seconds.
        host: The address to listen on.
        port: 0 chooses a free one.
        delivery_port: A separate port for output files; 0 chooses one, None: the same port.
        ledger: A file for the ledger, whose rows are restored.
    """
    api = _listen(host, port)
    base_url = _url(host, api)
    delivery = None if delivery_port is None else _listen(host, delivery_port)
    delivery_url = base_url if delivery is None else _url(host, delivery)
    account = Account(
        plan or Plan(),
        Ledger(ledger),
        DIALECTS,
        delivery=None if delivery is None else delivery_url,
    )
    account.restore()
    callbacks = Callbacks(account)
    callbacks.resume()
    async with AsyncExitStack() as stack:
        stack.callback(account.ledger.close)
        if ledger is not None:
            stack.callback(asyncio.create_task(_keep_synced(account.ledger)).cancel)
        stack.push_async_callback(callbacks.close)
        await stack.enter_async_context(_listening(create_app(account, callbacks), api))
        if delivery is not None:
            app = create_delivery(account, callbacks)
            await stack.enter_async_context(_listening(app, delivery))
        yield Emulator(account, base_url, delivery_url)


def run(
    host: str = LOOPBACK,
    port: int = 9009,
    *,
    seed: int = 0,
    ledger: Path | None = None,
    delivery_port: int | None = None,
    plan: Plan | None = None,
) -> None:
    """Run the emulator until SIGINT or SIGTERM, and print its address to standard output.

    Args:
        host: The address to listen on. The control API is always restricted to this machine.
        port: 0 chooses a free one.
        seed: For all random decisions.
        ledger: A file for the ledger, whose rows are restored.
        delivery_port: A separate port for output files.
        plan: The initial configuration, except for the seed.
    """
    chosen = (plan or Plan()).model_copy(update={"seed": seed})

    async def until_signal() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signal_number, stop.set)
        async with serve(
            chosen, host=host, port=port, delivery_port=delivery_port, ledger=ledger
        ) as emulator:
            sys.stdout.write(f"Replicate emulator at {emulator.base_url}\n")
            sys.stdout.flush()
            await stop.wait()

    loop_factory = uvicorn.Config(app="", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(until_signal())


@asynccontextmanager
async def _listening(app: ASGIApp, sock: socket.socket) -> AsyncGenerator[None]:
    """Serve on a socket. At the end, all requests are stopped, including those that hang."""
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_keep_alive=60)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(config, state, {}), sock=sock, backlog=2048)
    try:
        yield
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # lets the protocols react
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm only if the protocol is set; else responses take 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(2048)
    listening.settimeout(0)  # as event loops require
    return listening


def _url(host: str, listening: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"


async def _keep_synced(ledger: Ledger) -> None:
    with suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            await asyncio.to_thread(ledger.sync)
