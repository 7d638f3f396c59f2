"""Servers for tests with arbitrary handlers of connections, closed completely at the end."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

Visit = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serve one connection."""


@asynccontextmanager
async def listening(visit: Visit) -> AsyncGenerator[str]:
    """Yield the address of a server on loopback, ``http://127.0.0.1:PORT``.

    At the end every connection is closed and awaited: one that outlives its event loop would fail
    a later test.
    """
    visits: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.add(cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            await visit(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller has disconnected, or the test is over
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await _turns(4)  # accepted connections reach `serve`
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        await _turns(4)  # aborted connections are closed


def port_of(url: str) -> int:
    """Return the port of such an address."""
    return int(url.rpartition(":")[2])


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)
