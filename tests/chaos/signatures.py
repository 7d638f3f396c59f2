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
        chunks = _without(_png(content), b"caBX")
        return PNG + b"".join(chunk for _, chunk in chunks)
    if content.startswith(b"RIFF"):
        body = b"".join(chunk for _, chunk in _without(_riff(content), b"C2PA"))
        return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + content[8:HEADER] + body
    return content


def _without(chunks: Iterator[Chunk], kind: bytes) -> Iterator[Chunk]:
    return (chunk for chunk in chunks if chunk[0] != kind)


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
