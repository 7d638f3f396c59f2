"""A transport whose close lets the client read the response first."""

import asyncio
import fcntl
import struct
import termios
from contextlib import suppress
from typing import Any, Final, Protocol

UNREAD: Final[int | None] = getattr(termios, "TIOCOUTQ", None)
"""On Linux: how many bytes of a socket's send buffer the client's side has not taken yet."""


class Closing(Protocol):
    """The owner of a transport, which decides how to close it."""

    def close_gently(self) -> None:
        """Close it after the client had time to read the response."""


class GentleTransport(asyncio.Transport):
    """Delegates everything to a transport, except `close`, which calls the owner.

    Closing a socket with unread bytes resets the connection, and the response may be lost.
    """

    def __init__(self, transport: asyncio.Transport, owner: Closing) -> None:
        super().__init__()
        self._transport = transport
        self._owner = owner
        self._ended = False
        self.write = transport.write  # type: ignore[method-assign]  # saves a call per write

    def close(self) -> None:
        """Close the connection after pending writes, by the owner."""
        if not self._ended:
            self._ended = True
            self._owner.close_gently()

    def is_closing(self) -> bool:
        """Return whether the transport is closing, so that writes are not allowed."""
        return self._ended or self._transport.is_closing()

    def finish(self) -> None:
        """Close it after pending writes."""
        self._ended = True
        self._transport.close()

    def half_close(self) -> None:
        """Close the sending side, and continue reading."""
        self._ended = True
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        """Close it at once."""
        self._ended = True
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information about the socket."""
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that are not written yet."""
        return self._transport.get_write_buffer_size()

    def get_unread_size(self) -> int:
        """Return the number of bytes that the client's side has not taken yet.

        That includes the system's send buffer, which takes megabytes before more can be written: a
        slow reader makes progress long before the write buffer shows it.
        """
        size = self.get_write_buffer_size()
        connection = self.get_extra_info("socket")
        if UNREAD is not None and connection is not None:
            with suppress(OSError, ValueError):  # closed meanwhile, or not a socket of the network
                sent = fcntl.ioctl(connection.fileno(), UNREAD, struct.pack("i", 0))
                size += struct.unpack("i", sent)[0]
        return size

    def pause_reading(self) -> None:
        """Pause reading."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        if not self._transport.is_closing():
            self._transport.resume_reading()
