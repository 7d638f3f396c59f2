"""The ways in which files are made of parts: RIFF chunks, ISO boxes, GIF's sub-blocks.

Each walk skips from header to header and has an end, whatever the headers say.
"""

import struct
from collections.abc import Container, Iterator
from io import SEEK_CUR, SEEK_END
from typing import BinaryIO, Final

MAX_PARTS: Final = 25_000

Part = tuple[bytes, int, int]  # name, where its content begins, where it ends


class Broken(Exception):
    """The file ends too early or contradicts itself."""


def take(file: BinaryIO, length: int, *, at: int | None = None) -> bytes:
    """Return exactly so many bytes, from `at` or from where the file stands.

    Raises:
        Broken: There are fewer.
    """
    if at is not None:
        file.seek(at)
    taken = file.read(length)
    if len(taken) < length:
        raise Broken
    return taken


def riff(file: BinaryIO) -> Iterator[Part]:
    """Walk the chunks of a RIFF file."""
    size, at = file.seek(0, SEEK_END), 12
    for _ in range(MAX_PARTS):
        if at + 8 > size:
            return
        name, length = struct.unpack("<4sI", take(file, 8, at=at))
        yield name, at + 8, min(at + 8 + length, size)
        at += 8 + length + length % 2


def boxes(file: BinaryIO, *, inside: Container[bytes]) -> Iterator[Part]:
    """Walk the boxes of an ISO media file, entering those named in `inside` instead.

    Raises:
        Broken: A box is shorter than its own header.
    """
    size, at = file.seek(0, SEEK_END), 0
    for _ in range(MAX_PARTS):
        if at + 8 > size:
            return
        length, name = struct.unpack(">I4s", take(file, 8, at=at))
        head = 8
        if length == 1:  # the length has 64 bits and follows
            (length,) = struct.unpack(">Q", take(file, 8))
            head = 16
        elif length == 0:  # to the end
            length = size - at
        if length < head:
            raise Broken
        if name in inside:
            at += head + (4 if name == b"meta" else 0)  # "meta" has a version and flags
        else:
            yield name, at + head, min(at + length, size)
            at += length


def skip_blocks(file: BinaryIO, steps: Iterator[object]) -> None:
    """Move behind a GIF's row of sub-blocks, taking one of `steps` for each.

    Raises:
        Broken: No steps are left, or the file ends before the row.
    """
    for _ in steps:
        length = take(file, 1)[0]
        if length == 0:
            return
        file.seek(length, SEEK_CUR)
    raise Broken
