"""What a signature with C2PA has added to a file, so that the rest can be compared."""

from collections.abc import Callable, Iterator
from typing import Final

PNG: Final = b"\x89PNG\r\n\x1a\n"
HEADER: Final = 12  # bytes of a RIFF file before its chunks

Chunk = tuple[bytes, bytes]
"""Its kind, and all of its bytes."""


def unsigned(content: bytes) -> bytes:
    """Return a file without its manifest; a PNG or a RIFF file, others are returned as they are."""
    if content.startswith(PNG):
        return PNG + b"".join(_without(_png(content), b"caBX"))
    if content.startswith(b"RIFF"):
        body = b"".join(_without(_riff(content), b"C2PA"))
        removed = len(content) - HEADER - len(body)  # what follows the last chunk stays
        size = int.from_bytes(content[4:8], "little") - removed
        return b"RIFF" + size.to_bytes(4, "little") + content[8:HEADER] + body
    return content


def _without(chunks: Iterator[Chunk], kind: bytes) -> Iterator[bytes]:
    return (chunk for named, chunk in chunks if named != kind)


def _png(content: bytes) -> Iterator[Chunk]:
    return _chunks(
        content, len(PNG), lambda at: (at + 4, int.from_bytes(content[at : at + 4]) + 12)
    )


def _riff(content: bytes) -> Iterator[Chunk]:
    def of(at: int) -> tuple[int, int]:
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        return at, 8 + size + size % 2

    return _chunks(content, HEADER, of)


def _chunks(
    content: bytes, at: int, measured: Callable[[int], tuple[int, int]]
) -> Iterator[Chunk]:
    """Yield the chunks from a place on; `measured`: where a chunk's kind is, and its whole size."""
    while at < len(content):
        kind, size = measured(at)
        yield content[kind : kind + 4], content[at : at + size]
        at += size
