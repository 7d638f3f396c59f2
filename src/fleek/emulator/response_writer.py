"""Response headers and encoding: the Date header, right or wrong, and optional compression."""

import zlib
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

from starlette.types import Message, Send

from fleek.emulator.fault_sampler import Faults
from fleek.emulator.responses import RequestEntry

GZIP: Final = zlib.MAX_WBITS | 16  # what zlib calls this format


class ResponseWriter:
    """Sends one response.

    Args:
        send: Sends to the client.
        entry: Its row in the ledger.
        now: Seconds since 1970, as the emulator shows them.
        draw: Chooses the faults of group `answer`, once the response begins.
    """

    def __init__(
        self,
        send: Send,
        entry: RequestEntry,
        *,
        now: Callable[[], float],
        draw: Callable[[], Faults],
    ) -> None:
        self._send = send
        self._entry = entry
        self._now = now
        self._draw = draw
        self._compressor: zlib._Compress | None = None

    async def __call__(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self._entry.status = message["status"]
            faults = self._draw()
            self._entry.faults += [*faults]
            message = {**message, "headers": self._headers(message, faults)}
        elif self._compressor is not None:
            body = self._compressor.compress(message.get("body", b""))
            body += b"" if message.get("more_body") else self._compressor.flush()
            message = {**message, "body": body}
        await self._send(message)
        self._entry.sent += len(message.get("body", b""))

    def _headers(self, message: Message, faults: Faults) -> list[tuple[bytes, bytes]]:
        headers = [*message.get("headers", ())]
        if "answer_gzip" in faults:
            self._compressor = zlib.compressobj(wbits=GZIP)
            headers = [header for header in headers if header[0] != b"content-length"]
            headers.append((b"content-encoding", b"gzip"))
        date = _date(faults.get("answer_date", "0"), self._now())
        return headers if date is None else [*headers, (b"date", date.encode())]


def _date(wrong: str, now: float) -> str | None:
    if wrong == "none":
        return None
    try:
        return formatdate(int(now + float(wrong)), usegmt=True)
    except (ValueError, OverflowError, OSError):
        return "the day before yesterday"
