"""Accepts connections as fast as they come, however busy the event loop is.

The event loop's own servers accept one connection per turn. Under load a turn takes milliseconds, so
that of thousands of connections the last one would wait for many seconds until it is even refused.

Source: libuv since 1.45, https://github.com/libuv/libuv/pull/3696
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

import structlog

AT_ONCE: Final = 512  # connections per turn; then those that are open have theirs
PAUSE_SECONDS: Final = 0.5  # when the process or the system has no descriptor or memory left
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger(__name__)


class Acceptor:
    """Accepts the connections of one listening socket until it is closed."""

    def __init__(self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._listener = listener
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listener.setblocking(False)  # noqa: FBT003 - the library's way
        self._resume()

    def close(self) -> None:
        """Accept no more connections."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._wait(error)
                    return
                continue  # this connection was closed before it was accepted
            opening = self._loop.create_task(self._open(connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # closed meanwhile
            connection.close()

    def _wait(self, error: OSError) -> None:
        log.warning("accept_failed", reason=error.strerror)
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)
