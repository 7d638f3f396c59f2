"""A connection's transport, closed so that the other side can read what was answered."""

import asyncio
from typing import Any, Protocol


class Closing(Protocol):
    """Who decides how a connection is closed."""

    def close_gently(self) -> None:
        """Close it once the other side has had its chance to read the answer."""


class GentleTransport(asyncio.Transport):
    """Passes everything on; `close` asks its owner, and `abort` does not.

    A socket that is closed with bytes still to be read resets the connection, and the answer may
    be lost with it.
    """

    def __init__(self, transport: asyncio.Transport, owner: Closing) -> None:
        super().__init__()
        self._transport = transport
        self._owner = owner
        self._ended = False
        self.write = transport.write  # type: ignore[method-assign]  # saves a call per write

    def close(self) -> None:
        """End the connection after what was written, in the owner's way."""
        if not self._ended:
            self._ended = True
            self._owner.close_gently()

    def is_closing(self) -> bool:
        """Return whether nothing may be written any more."""
        return self._ended or self._transport.is_closing()

    def finish(self) -> None:
        """Close it as soon as everything is written."""
        self._ended = True
        self._transport.close()

    def half_close(self) -> None:
        """Say that nothing more comes, and go on reading."""
        self._ended = True
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        """Close it at once."""
        self._ended = True
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the socket."""
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be written."""
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Read nothing for now."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()
