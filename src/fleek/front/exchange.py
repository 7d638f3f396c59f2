"""uvicorn's exchange of a request for a response, which takes a whole response at once."""

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from fleek.api.direct import WHOLE

CLOSE: Final = b"connection: close\r\n"


class Exchange(RequestResponseCycle):
    """One request and its response.

    A message that begins a response may hold all of its body, as `WHOLE`. Its head and body are written
    together: a second call of the system is a tenth of a status request.
    """

    async def send(self, message: Any) -> None:
        """Send a part of the response, or all of it."""
        body: bytes | None = message.get(WHOLE)
        if body is None:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        assert not self.response_started
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(self._head(message["status"], message["headers"]) + body)
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _head(self, status: int, fields: list[tuple[bytes, bytes]]) -> bytes:
        """Return the head of a response, whose fields include its length.

        Raises:
            RuntimeError: A field has a line break, which would begin another one.
        """
        lines = [b"%s: %s\r\n" % field for field in (*self.default_headers, *fields)]
        head = STATUS_LINE[status] + b"".join(lines)
        breaks = len(lines) + 1
        if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
            raise RuntimeError("invalid header field")
        return head + (b"\r\n" if self.keep_alive else CLOSE + b"\r\n")
