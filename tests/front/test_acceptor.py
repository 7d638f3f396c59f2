"""Many connections are accepted in one turn of the event loop."""

import asyncio
import errno
import os
import socket
from contextlib import ExitStack
from typing import Any, Final

import uvloop
from structlog.testing import capture_logs

from fleek.front import acceptor
from fleek.front.acceptor import Acceptor

CALLERS: Final = 100
TURNS: Final = 5


class Counting(asyncio.Protocol):
    """Count the connections that were opened."""

    opened = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection and close it."""
        type(self).opened += 1
        transport.close()


class Exhausted(socket.socket):
    """A listening socket whose first accept fails for lack of descriptors."""

    failed = False

    def accept(self) -> Any:
        """Fail once, then accept."""
        if not self.failed:
            self.failed = True
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def listening(kind: type[socket.socket]) -> socket.socket:
    """Return a listening socket on a free port."""
    listener = kind()
    listener.bind(("127.0.0.1", 0))
    listener.listen(CALLERS)
    return listener


def opened(listener: socket.socket, *, callers: int, turns: int) -> int:
    """Return how many of the waiting callers were accepted after this many turns."""

    class Protocol(Counting):
        opened = 0

    async def take_turns() -> int:
        accepting = Acceptor(listener, Protocol)
        for _ in range(turns):
            await asyncio.sleep(0)
        accepting.close()
        return Protocol.opened

    with ExitStack() as stack:
        for _ in range(callers):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(take_turns())


def test_all_waiting_connections_are_accepted_at_once() -> None:
    """Servers of asyncio accept one per turn: the last of thousands would wait for seconds."""
    assert opened(listening(socket.socket), callers=CALLERS, turns=TURNS) == CALLERS


def test_accepting_pauses_without_descriptors(monkeypatch: Any) -> None:
    """The caller waits in the backlog meanwhile; the log names the reason."""
    monkeypatch.setattr(acceptor, "PAUSE_SECONDS", 0)
    with capture_logs() as lines:
        assert opened(listening(Exhausted), callers=1, turns=20) == 1
    assert [line["event"] for line in lines] == ["accept_failed"]
