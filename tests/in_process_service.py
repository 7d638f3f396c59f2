"""The service on a socket in the test's own event loop, and clients that send arbitrary bytes."""

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from fleek.api.admission import Limit, WriteLimits
from fleek.api.feed import Feed
from fleek.api.hub import Hub
from fleek.api.streams import Streams
from fleek.app import create_app
from fleek.engine.runtime import Runtime
from fleek.server import _config, _Server

PATIENCE = 60.0
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
LAST = b"Connection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """All bytes that a connection has received until its end."""

    data: bytes

    @property
    def statuses(self) -> list[int]:
        """Return the status of each response."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.data)]

    @property
    def code(self) -> str:
        """Return the code of the problem; empty if there is none."""
        found = re.search(rb'"code":"(\w+)"', self.data)
        return found[1].decode() if found else ""


class Caller:
    """A connection to the service."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        """Send bytes; ignored if the service has disconnected."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._loop.sock_sendall(self._socket, data)
        except ConnectionError:
            pass

    async def read(self, until: bytes = b"") -> Answer:
        """Return the received bytes, until the service closes or these bytes have arrived."""
        data = b""
        try:
            async with asyncio.timeout(PATIENCE):
                while part := await self._loop.sock_recv(self._socket, 65536):
                    data += part
                    if until and until in data:
                        break
        except ConnectionError:
            pass
        return Answer(data)

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Served:
    """A running service."""

    rt: Runtime
    port: int
    hub: Hub
    streams: Streams
    limits: WriteLimits
    feed: Feed
    stop: Callable[[], None]  # as SIGTERM does; returns at once

    @property
    def writes(self) -> Limit:
        """The limit of what callers write."""
        return self.limits.callers

    async def call(self, data: bytes = b"") -> Caller:
        """Open a connection and send these bytes."""
        connection = socket.socket()
        connection.setblocking(False)  # noqa: FBT003 - the library's way
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        caller = Caller(connection)
        if data:
            await caller.send(data)
        return caller

    async def exchange(self, data: bytes) -> Answer:
        """Send bytes, and return all that is received until the service closes."""
        caller = await self.call()
        sending = asyncio.create_task(caller.send(data))
        try:
            return await caller.read()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            caller.close()


Serving = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def serving_on(rt: Runtime, **settings: Any) -> AsyncGenerator[Served]:
    """Serve the application on a free port, with these settings."""
    changed = replace(rt, settings=rt.settings.model_copy(update=settings))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    app = create_app(changed)
    state = app.state
    stopping = asyncio.Event()
    server = _Server(_config(changed.settings, app), stopping)
    task = asyncio.create_task(server.serve([listener]))

    def stop() -> None:
        server.should_exit = True
        stopping.set()

    try:
        port = listener.getsockname()[1]
        yield Served(
            rt=changed,
            port=port,
            hub=state.hub,
            streams=state.streams,
            limits=state.write_limits,
            feed=state.feed,
            stop=stop,
        )
    finally:
        stop()
        await task
