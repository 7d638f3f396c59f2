"""A form with one file, read while it comes in.

Source: RFC 7578 and RFC 2046, section 5.1.
"""

import re
from collections.abc import AsyncIterator
from typing import Final

from fleek.domain.errors import InvalidInput, Unreadable

BOUNDARY: Final = re.compile(
    r'multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))\s*(?:;.*)?',
    re.IGNORECASE,
)
MAX_HEAD: Final = 8192  # bytes of a part's headers

ENDED: Final = "the form ends early"
ONE_FILE: Final = "the form must hold one file and nothing else"


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary of a form; None: the body is something else.

    Raises:
        Unreadable: It is a form without a boundary.
    """
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return None
    found = BOUNDARY.fullmatch(content_type.strip())
    if found is None:
        raise Unreadable("the Content-Type of a form must name its boundary")
    return (found[1] or found[2]).encode("latin-1", "replace")


async def read_file(chunks: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[bytes]:
    """Stream the content of the only part of a form.

    Raises:
        Unreadable: It is not a form.
        InvalidInput: It has several parts, or none.
    """
    form = Form(chunks)
    await form.skip(b"--" + boundary, most=MAX_HEAD)
    if await form.starts_with(b"--"):
        raise InvalidInput(ONE_FILE, code="not_one_file")
    await form.skip(b"\r\n", most=MAX_HEAD)
    if not await form.starts_with(b"\r\n"):  # a part without headers
        await form.skip(b"\r\n\r\n", most=MAX_HEAD)
    async for chunk in form.until(b"\r\n--" + boundary):
        yield chunk
    if not await form.starts_with(b"--"):
        raise InvalidInput(ONE_FILE, code="not_one_file")
    await form.exhaust()


class Form:
    """What has come in of a form, and is not read yet."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._held = bytearray()

    async def _more(self) -> None:
        chunk = await anext(self._chunks, None)
        if chunk is None:
            raise Unreadable(ENDED)
        self._held += chunk

    async def starts_with(self, mark: bytes) -> bool:
        """Whether the next bytes are these; if so, pass them."""
        while len(self._held) < len(mark):
            await self._more()
        found = self._held.startswith(mark)
        if found:
            del self._held[: len(mark)]
        return found

    async def skip(self, mark: bytes, *, most: int) -> None:
        """Pass everything up to a mark and the mark itself, at most so many bytes."""
        while (at := self._held.find(mark, 0, most)) < 0:
            if len(self._held) > most:
                raise Unreadable("the form has no part, or a part with too long headers")
            await self._more()
        del self._held[: at + len(mark)]

    async def head(self) -> bytes:
        """Return the headers of a part, and pass the line behind them."""
        if await self.starts_with(b"\r\n"):  # a part without headers
            return b""
        while (at := self._held.find(b"\r\n\r\n", 0, MAX_HEAD)) < 0:
            if len(self._held) > MAX_HEAD:
                raise Unreadable("the form has a part with too long headers")
            await self._more()
        head = bytes(self._held[:at])
        del self._held[: at + 4]
        return head

    async def until(self, mark: bytes) -> AsyncIterator[bytes]:
        """Stream everything up to a mark, and pass the mark."""
        while (at := self._held.find(mark)) < 0:
            sure = len(self._held) - len(mark) + 1  # the mark may have begun in the rest
            if sure > 0:
                yield bytes(self._held[:sure])
                del self._held[:sure]
            await self._more()
        yield bytes(self._held[:at])
        del self._held[: at + len(mark)]

    async def exhaust(self) -> None:
        """Read what follows the last part; it means nothing."""
        left = len(self._held)
        while left <= MAX_HEAD:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return
            left += len(chunk)
        raise Unreadable("there is too much after the form")
