"""Detection of a file's end in each format, by walking through its parts while it is streamed.

A walk is a generator. It yields what it needs next, receives those bytes, and returns at the end of
the file, ignoring later bytes: True if the file is complete, None if its format does not tell.
"""

import re
from collections.abc import Callable, Generator
from typing import Final

from fleek.domain.values import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    """The bytes that a walk waits for."""

    size: int = 0  # number of bytes to be sent, unless it skips or searches
    skip: int = 0  # number of bytes to be skipped
    until: re.Pattern[bytes] | None = None  # a pattern of two bytes to be searched for, and sent
    end: bool | None = False  # the result if the file ends before this


Walk = Generator[Need, bytes, bool | None]

_MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)  # within a scan: its end
_UNKNOWN_SIZES: Final = frozenset({0, 0xFFFFFFFF})  # of files written as a stream
_BOX_NAME: Final = re.compile(rb"[ -~\xa9][ -~]{3}")
_BOX: Final = re.compile(
    rb"mdat|moov|moof|mfra|meta|free|skip|wide|uuid|sidx|ssix|styp|udta|emsg|prft"
)
_INDEXES: Final = frozenset({b"moov", b"meta"})  # of video, of HEIF
_CONTENTS: Final = frozenset({b"mdat", b"idat"})
_ZIP_MARK: Final = re.compile(rb"PK")
_ZIP_END_BYTES: Final = 18  # after the mark of a ZIP file's end


def png() -> Walk:
    """Walk through chunks, up to the one named IEND."""
    yield Need(skip=8)
    while True:
        head = yield Need(8)
        yield Need(skip=int.from_bytes(head[:4], "big") + 4)
        if head[4:] == b"IEND":
            return True


def jpeg() -> Walk:
    """Walk through segments and scans, up to the end of the first picture."""
    yield Need(skip=2)
    while True:
        marker = (yield Need(until=_MARKER))[1]
        if marker == 0xD9:
            return True
        if marker > 0xBF and marker != 0xD8:
            length = int.from_bytes((yield Need(2)), "big")
            yield Need(skip=max(length - 2, 0))


def gif() -> Walk:
    """Walk through blocks, up to the trailer."""
    head = yield Need(13)
    yield Need(skip=_palette(head[10]))
    while True:
        kind = yield Need(1)
        if kind == b";":
            return True
        if kind == b",":
            image = yield Need(9)
            yield Need(skip=_palette(image[8]) + 1)
        elif kind == b"!":
            yield Need(skip=1)
        else:
            return None
        while (length := (yield Need(1))[0]) > 0:
            yield Need(skip=length)


def _palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def sized(head: bytes) -> Walk:
    """Walk to the size in the head of a RIFF, AIFF or glTF file."""
    size = int.from_bytes(head[4:8], "big" if head.startswith(b"FORM") else "little") + 8
    if head.startswith(b"glTF"):
        size = int.from_bytes(head[8:12], "little")
    elif size - 8 in _UNKNOWN_SIZES:
        return None
    yield Need(skip=size)
    return True


def boxes() -> Walk:
    """Walk through the boxes of an ISO media file, as long as their names are valid.

    A complete file has an index and the indexed data, which HEIF may have inside the index. After
    these, only known names count as boxes.
    """
    seen: set[bytes] = set()
    while True:
        whole = bool(seen & _INDEXES) and bool(seen & _CONTENTS)
        head = yield Need(8, end=whole)
        size, name = int.from_bytes(head[:4], "big"), head[4:]
        header = 8
        if size == 1:
            size, header = int.from_bytes((yield Need(8)), "big"), 16
        if size < header or not (_BOX if whole else _BOX_NAME).fullmatch(name):
            return True if whole else None  # 0: up to the end of the file
        if name == b"meta":
            meta = yield Need(min(size - header, 65_536))
            header += len(meta)
            if b"idat" in meta:
                seen.add(b"idat")
        yield Need(skip=size - header)
        seen.update({name} & (_INDEXES | _CONTENTS))


def ogg() -> Walk:
    """Walk through pages, up to the one marked as the last of the only stream."""
    streams: set[bytes] = set()
    ended: set[bytes] = set()
    while True:
        over = bool(streams) and streams == ended
        head = yield Need(27, end=True if over else None)
        if not head.startswith(b"OggS"):
            return True if over else None
        yield Need(skip=sum((yield Need(head[26]))))
        streams.add(head[14:18])
        if head[5] & 4:
            ended.add(head[14:18])


def ebml() -> Walk:
    """Walk through a Matroska or WebM file, whose only segment may have a size."""
    while True:
        name = yield Need(1)
        rest = _width(name[0])
        if rest is None or rest > 4:
            return None
        name += yield Need(rest - 1)
        first = yield Need(1)
        rest = _width(first[0])
        if rest is None:
            return None
        digits = bytes([first[0] & (0xFF >> rest)]) + (yield Need(rest - 1))
        size = int.from_bytes(digits, "big")
        if size == (1 << 7 * rest) - 1:
            return None
        yield Need(skip=size)
        if name == b"\x18S\x80g":
            return True


def _width(first: int) -> int | None:
    """Return the length in bytes of a number with this first byte."""
    return 9 - first.bit_length() if first else None


def archive() -> Walk:
    """Walk to the end of a ZIP file's directory."""
    while (yield Need(until=_ZIP_MARK)):
        if (yield Need(2)) == b"\x05\x06":
            yield Need(skip=_ZIP_END_BYTES)
            break
    return True


def walk_of(head: bytes) -> Walk | None:
    """Return the walk for a file's head; None if its format does not mark its end."""
    return next((make(head) for starts, make in _WALKS if starts.match(head)), None)


def _pattern(magic: bytes) -> re.Pattern[bytes]:
    return re.compile(magic, re.DOTALL)


_WALKS: Final[tuple[tuple[re.Pattern[bytes], Callable[[bytes], Walk]], ...]] = (
    (_pattern(rb"\x89PNG\r\n\x1a\n"), lambda _: png()),
    (_pattern(rb"\xff\xd8\xff"), lambda _: jpeg()),
    (_pattern(rb"GIF8[79]a"), lambda _: gif()),
    (_pattern(rb"RIFF|FORM....AIF|glTF\x02\x00\x00\x00"), sized),
    (_pattern(rb"....(ftyp|moov|wide|mdat)"), lambda _: boxes()),
    (_pattern(rb"OggS"), lambda _: ogg()),
    (_pattern(rb"\x1aE\xdf\xa3"), lambda _: ebml()),
    (_pattern(rb"PK\x03\x04"), lambda _: archive()),
)
