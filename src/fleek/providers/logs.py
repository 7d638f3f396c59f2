"""Removal of the middle of predictions' logs, which may have any length.

A body is filtered while it is received. Of a long log, the beginning and the end are kept: they
contain the seed and the progress. Everything else passes unchanged, also outputs of the model
under such a name.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from fleek import strict
from fleek.domain.provider_logs import LEFT_OUT
from fleek.domain.text import ChunkBuffer
from fleek.domain.values import dataclass

KEPT: Final = 65_536  # bytes kept at the beginning of a log; shorter bodies are not filtered
TAIL: Final = 32_768  # minimum bytes kept at its end
MAX_KEY: Final = 16
MAX_READ: Final = 512 * 1_048_576  # bytes of a body including logs

LOGS: Final = ((b"logs",), (b"results", None, b"logs"))
"""The paths of logs in a prediction and in a page of a list. None: any item of a list."""

_MARKER: Final = strict.dumps(LEFT_OUT)[1:-1]  # in place of what was left out
_MAX_DEPTH: Final = max(map(len, LOGS))
_MARK: Final = re.compile(rb'["\[\]{},:]')
_REST_OF_CHARACTER: Final = re.compile(rb"\A[\x80-\xbf]{0,3}")
_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)  # complete escapes only


class TooLong(ValueError):
    """The body is too large, even without its logs."""


async def body_without_logs(chunks: AsyncIterator[bytes], *, most: int) -> bytes:
    """Read a whole body, without the middle of its logs.

    Raises:
        TooLong: It has more than `most` bytes without the logs.
    """
    body, read = ChunkBuffer(), 0
    begun: bytearray | None = bytearray()
    logs = LogFilter()
    async for chunk in chunks:
        read += len(chunk)
        if begun is not None:
            begun += chunk
            if len(begun) <= KEPT:
                continue
            chunk, begun = bytes(begun), None  # noqa: PLW2901 - the first chunks are filtered together
        body.add(await asyncio.to_thread(logs.feed, chunk))
        if body.size > most or read > MAX_READ:
            raise TooLong(f"the response has more than {most} bytes")
    body.add(logs.end() if begun is None else bytes(begun))
    if body.size > most:
        raise TooLong(f"the response has more than {most} bytes")
    return body.whole() if begun is not None else await asyncio.to_thread(body.whole)


@dataclass(slots=True)
class _Container:
    """An open object or list."""

    listed: bool
    key: bytes | None = None  # of an object: the last key, in quotes
    valued: bool = False  # of an object: whether a value is next


class LogFilter:
    """Filters the middle of logs out of a JSON text that is received in chunks."""

    def __init__(self) -> None:
        self._rest = b""  # an incomplete escape
        self._around: list[_Container] = []  # the outermost containers
        self._deeper = 0  # number of further open containers
        self._in_string = False
        self._key: bytearray | None = None  # the received part, in a string that is a key
        self._log: int | None = None  # the number of bytes so far, in a string that is a log
        self._tail: deque[bytes] = deque()  # the newest pieces of the log
        self._tail_bytes = 0
        self._cut = False  # whether older pieces were dropped

    def feed(self, chunk: bytes) -> bytes:
        """Return the kept part of the next bytes."""
        data, out, at = self._rest + chunk, bytearray(), 0
        self._rest = b""
        while at < len(data):
            if not self._in_string:
                at = self._between(data, at, out)
                continue
            match = _STRING.match(data, at)
            assert match is not None
            self._within(match[0], out)
            at = match.end()
            if data[at : at + 1] == b'"':
                self._close(out)
                at += 1
            else:
                self._rest = data[at:]
                break
        return bytes(out)

    def end(self) -> bytes:
        """Return the rest after the last bytes."""
        return b"".join(self._tail) + self._rest

    def _between(self, data: bytes, at: int, out: bytearray) -> int:
        """Copy the text between strings up to the next mark; returns the next position."""
        match = _MARK.search(data, at)
        end = len(data) if match is None else match.end()
        out += data[at:end]
        if match is not None:
            self._mark(match[0])
        return end

    def _mark(self, mark: bytes) -> None:
        if mark in b"{[":
            if len(self._around) < _MAX_DEPTH:
                self._around.append(_Container(listed=mark == b"["))
            else:
                self._deeper += 1
        elif mark in b"}]":
            if self._deeper:
                self._deeper -= 1
            elif self._around:
                self._around.pop()
        elif mark == b'"':
            self._open()
        elif self._around and not self._deeper:
            self._around[-1].valued = mark == b":"

    def _open(self) -> None:
        self._in_string = True
        within = self._around[-1] if self._around and not self._deeper else None
        if within is not None and not within.listed and not within.valued:
            self._key = bytearray()
        elif within is not None and self._path() in LOGS:
            self._log = 0

    def _path(self) -> tuple[bytes | None, ...]:
        return tuple(None if container.listed else container.key for container in self._around)

    def _within(self, piece: bytes, out: bytearray) -> None:
        if self._log is None or self._log + len(piece) <= KEPT:
            out += piece
        else:
            if not self._tail:  # do not split a character
                begun = _REST_OF_CHARACTER.match(piece)
                assert begun is not None
                out += begun[0]
                piece = piece[begun.end() :]
            self._tail.append(piece)
            self._tail_bytes += len(piece)
            while self._tail_bytes - len(self._tail[0]) >= TAIL:
                self._tail_bytes -= len(self._tail.popleft())
                self._cut = True
        if self._log is not None:
            self._log += len(piece)
        if self._key is not None and len(self._key) < MAX_KEY:
            self._key += piece[:MAX_KEY]

    def _close(self, out: bytearray) -> None:
        tail = b"".join(self._tail)
        if self._cut:
            out += _MARKER
            tail = _REST_OF_CHARACTER.sub(b"", tail, count=1)
        out += tail + b'"'
        self._cut = False
        self._tail.clear()
        self._tail_bytes = 0
        if self._key is not None:
            self._around[-1].key = bytes(self._key)
        self._in_string, self._key, self._log = False, None, None
