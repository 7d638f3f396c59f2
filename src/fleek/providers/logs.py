"""Answers about predictions without most of their logs: those may have any length.

A body is read as it comes, and of a long log only the beginning and the end stay: a seed stands
in the one, progress in the other. Everything else passes unchanged, so whatever the model itself
returned under such a name is kept.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from fleek.domain.text import ChunkBuffer

KEPT: Final = 65_536  # bytes of a log that stay at its beginning; shorter bodies are not looked at
TAIL: Final = 32_768  # bytes of it that stay at its end, at least
MAX_KEY: Final = 16
MAX_READ: Final = 512 * 1_048_576  # bytes of a body, its logs included

LOGS: Final = ((b"logs",), (b"results", None, b"logs"))
"""Where logs stand in a prediction, and in a page of a list. None: in a list, anywhere."""

_MAX_DEPTH: Final = max(map(len, LOGS))
_MARK: Final = re.compile(rb'["\[\]{},:]')
_REST_OF_CHARACTER: Final = re.compile(rb"\A[\x80-\xbf]{0,3}")
_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)  # whole escapes only


class TooLong(ValueError):
    """The body has more bytes than are read, even without its logs."""


async def body_without_logs(chunks: AsyncIterator[bytes], *, most: int) -> bytes:
    """Read a body to its end and leave out the middle of its logs.

    Raises:
        TooLong: There are more than `most` bytes beside the logs.
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
            chunk, begun = bytes(begun), None  # noqa: PLW2901 - what has come so far is looked at now
        body.add(await asyncio.to_thread(logs.feed, chunk))
        if body.size > most or read > MAX_READ:
            raise TooLong(f"the answer has more than {most} bytes")
    body.add(logs.end() if begun is None else bytes(begun))
    if body.size > most:
        raise TooLong(f"the answer has more than {most} bytes")
    return body.whole() if begun is not None else await asyncio.to_thread(body.whole)


@dataclass(slots=True)
class _Container:
    """An object or a list that has begun and not ended."""

    listed: bool
    key: bytes | None = None  # in quotes in an object, the last one
    valued: bool = False  # whether what comes next in an object is a value


class LogFilter:
    """Takes a JSON text in chunks and gives it back without the middle of its logs."""

    def __init__(self) -> None:
        self._rest = b""  # the beginning of an escape
        self._around: list[_Container] = []  # the outermost ones
        self._deeper = 0  # how many more there are
        self._in_string = False
        self._key: bytearray | None = None  # of a string that is a key, what has come
        self._log: int | None = None  # of a string that is a log, the bytes so far
        self._tail: deque[bytes] = deque()  # its newest pieces; they stay if no others come
        self._tail_bytes = 0
        self._cut = False  # whether older ones are gone

    def feed(self, chunk: bytes) -> bytes:
        """Return what stays of the next bytes."""
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
        """Return what is left once all has come."""
        return b"".join(self._tail) + self._rest

    def _between(self, data: bytes, at: int, out: bytearray) -> int:
        """Pass on what stands between strings, up to the next mark; returns where to go on."""
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
        return tuple(None if one.listed else one.key for one in self._around)

    def _within(self, piece: bytes, out: bytearray) -> None:
        if self._log is None or self._log + len(piece) <= KEPT:
            out += piece
        else:
            if not self._tail:  # a character that has begun stays whole
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
        out += (_REST_OF_CHARACTER.sub(b"", tail, count=1) if self._cut else tail) + b'"'
        self._cut = False
        self._tail.clear()
        self._tail_bytes = 0
        if self._key is not None:
            self._around[-1].key = bytes(self._key)
        self._in_string, self._key, self._log = False, None, None
