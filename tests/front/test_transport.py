"""The transport reports how much the reader has not yet read."""

import asyncio
import socket
from collections.abc import AsyncGenerator

import pytest

from fleek.front.transport import GentleTransport

PATIENCE = 60.0
PART = 16 * 1024


class Owner:
    """A connection whose closing does nothing."""

    def close_gently(self) -> None:
        """Do nothing."""


@pytest.fixture
async def ends() -> AsyncGenerator[tuple[GentleTransport, socket.socket]]:
    """Return a transport whose buffers are full, and the socket of its reader."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * PART)
        reader.connect(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.setblocking(False)  # noqa: FBT003 - the library's way
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * PART)
        writing, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
        writing.write(bytes(1024 * PART))
        yield GentleTransport(writing, Owner()), reader
        writing.abort()
        await asyncio.sleep(0)


async def test_a_slow_reader_makes_progress_before_more_can_be_written(
    ends: tuple[GentleTransport, socket.socket],
) -> None:
    """As with a slow client behind nginx: it takes little at a time, but does not stall."""
    transport, reader = ends
    waiting, unread = transport.get_write_buffer_size(), transport.get_unread_size()

    async with asyncio.timeout(PATIENCE):
        while transport.get_unread_size() >= unread:
            reader.recv(PART)
            await asyncio.sleep(0)

    assert unread > waiting
    assert transport.get_write_buffer_size() == waiting
