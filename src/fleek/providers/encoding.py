"""Decompression of bodies that are compressed without having been requested so.

Object stores send such bodies. The content is decompressed in small pieces and counted, so a
decompression bomb is recognised early and never fills the memory.
"""

import re
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final

PIECE: Final = 65_536  # maximum bytes per step
MAX_LAYERS: Final = 4
MAX_RATIO: Final = 250  # more is a bomb: media stay below 100
FREE: Final = 16 * 1_048_576  # bytes that are allowed at any ratio

_PLAIN: Final = frozenset({"", "identity", "none", "aws-chunked", "utf-8", "binary"})
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_GZIP_TYPES: Final = re.compile(r"application/(x-)?(gzip|gunzip|compressed-tar|tgz|gtar)\b")
_GZIP_MARK: Final = b"\x1f\x8b"


class EncodingBroken(ValueError):
    """The body has an unsupported encoding, is incomplete, or is a decompression bomb."""


def decoded(
    chunks: AsyncIterator[bytes], headers: Mapping[str, str], *, path: str = "", free: int = FREE
) -> AsyncIterator[bytes]:
    """Yield a body without its ``Content-Encoding``.

    A file that is itself compressed, by its type or its name, is passed unchanged, as in browsers.
    Beyond `free` bytes, the ratio of compression is limited.

    Raises:
        EncodingBroken: It cannot be decompressed; raised here or later.
    """
    for coding in reversed(_codings(headers, path)):
        chunks = _unpacked(chunks, _Gzip(free) if coding in _GZIP else _Deflate(free))
    return chunks


def _codings(headers: Mapping[str, str], path: str) -> list[str]:
    names = headers.get("content-encoding", "").lower().split(",")
    codings = [coding for name in names if (coding := name.strip()) not in _PLAIN]
    if len(codings) > MAX_LAYERS:
        raise EncodingBroken(f"the body is compressed more than {MAX_LAYERS} times")
    if unknown := next((coding for coding in codings if coding not in _GZIP | {"deflate"}), None):
        raise EncodingBroken(
            f"the body has the encoding {unknown[:20]!r}, which was not requested"
        )
    packed = _GZIP_TYPES.match(headers.get("content-type", "").lower())
    if codings and codings[0] in _GZIP and (packed or path.lower().endswith((".gz", ".tgz"))):
        del codings[0]
    return codings


class _Deflate:
    """Decompresses the zlib format, or raw deflate, which some servers send instead."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._zlib: zlib._Decompress | None = None
        self._started = b""
        self._plain = False
        self._over = False  # whether the end of the compressed data was reached
        self.bytes_in = self.bytes_out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decompress the next bytes."""
        self.bytes_in += len(data)
        if self._zlib is None and not self._plain:
            self._started += data
            if len(self._started) < 2:
                return
            data, self._started = self._started, b""
            self._zlib = self._open(data)
            self._plain = self._zlib is None
        if self._zlib is None:
            yield data
            return
        while data and not self._over:
            piece = self._zlib.decompress(data, PIECE)
            data = self._zlib.unconsumed_tail
            self.bytes_out += len(piece)
            if self.bytes_out > max(self._free, MAX_RATIO * self.bytes_in):
                raise EncodingBroken("the body is a decompression bomb")
            if piece:
                yield piece
            if self._zlib.eof:
                data = self._next(self._zlib.unused_data)

    def end(self) -> bytes:
        """Return the rest after the last bytes.

        Raises:
            EncodingBroken: The body is incomplete.
        """
        if self._zlib is not None and not self._zlib.eof:
            raise EncodingBroken("the compressed body ended early")
        return self._started

    def _open(self, start: bytes) -> "zlib._Decompress | None":
        zlibs = start[0] & 0x0F == 8 and int.from_bytes(start[:2], "big") % 31 == 0
        return zlib.decompressobj(zlib.MAX_WBITS if zlibs else -zlib.MAX_WBITS)

    def _next(self, rest: bytes) -> bytes:
        """Return the bytes behind an end that are still to be decompressed."""
        self._over = bool(rest)
        return b""


class _Gzip(_Deflate):
    """Decompresses gzip with any number of members; trailing data passes unchanged."""

    def _open(self, start: bytes) -> "zlib._Decompress | None":
        if not start.startswith(_GZIP_MARK):
            return None
        return zlib.decompressobj(zlib.MAX_WBITS | 16)

    def _next(self, rest: bytes) -> bytes:
        if rest.startswith(_GZIP_MARK):
            self._zlib = self._open(rest)
            return rest
        self._over = rest != _GZIP_MARK[: len(rest)]
        return b""


async def _unpacked(chunks: AsyncIterator[bytes], unpacker: _Deflate) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            for piece in unpacker.feed(chunk):
                yield piece
    except zlib.error as error:
        raise EncodingBroken("the compressed body is damaged") from error
    if rest := unpacker.end():
        yield rest
