"""Detection of truncated files from their own format, while they are streamed.

HTTP does not always mark the end of a file: a server may announce a length that is too short, or
no length, and close the connection. Most media formats mark their own end. Bytes after it, such as
padding, are allowed: programs that display such files ignore them.
"""

import struct
from collections.abc import Container, Iterator
from io import SEEK_CUR, SEEK_END
from typing import BinaryIO, Final

from fleek.sniff.containers import Need, Walk, walk_of

MAX_PARTS: Final = 25_000

Part = tuple[bytes, int, int]  # name, start and end of its content


class Broken(Exception):
    """The file is truncated or inconsistent."""


def take(file: BinaryIO, length: int, *, at: int | None = None) -> bytes:
    """Return exactly `length` bytes, from `at` or from the current position.

    Raises:
        Broken: There are fewer bytes.
    """
    if at is not None:
        file.seek(at)
    part = file.read(length)
    if len(part) < length:
        raise Broken
    return part


def riff(file: BinaryIO) -> Iterator[Part]:
    """Yield the chunks of a RIFF file."""
    size, at = file.seek(0, SEEK_END), 12
    for _ in range(MAX_PARTS):
        if at + 8 > size:
            return
        name, length = struct.unpack("<4sI", take(file, 8, at=at))
        yield name, at + 8, min(at + 8 + length, size)
        at += 8 + length + length % 2


def boxes(file: BinaryIO, *, inside: Container[bytes]) -> Iterator[Part]:
    """Yield the boxes of an ISO media file; those named in `inside` are entered instead.

    Raises:
        Broken: A box is shorter than its own header.
    """
    size, at = file.seek(0, SEEK_END), 0
    for _ in range(MAX_PARTS):
        if at + 8 > size:
            return
        length, name = struct.unpack(">I4s", take(file, 8, at=at))
        head = 8
        if length == 1:  # a length of 64 bits follows
            (length,) = struct.unpack(">Q", take(file, 8))
            head = 16
        elif length == 0:  # up to the end of the file
            length = size - at
        if length < head:
            raise Broken
        if name in inside:
            at += head + (4 if name == b"meta" else 0)  # "meta" has a version and flags
        else:
            yield name, at + head, min(at + length, size)
            at += length


def skip_blocks(file: BinaryIO, steps: Iterator[object]) -> None:
    """Skip a GIF's sequence of sub-blocks, consuming one of `steps` for each.

    Raises:
        Broken: There are no steps left, or the file ends too early.
    """
    for _ in steps:
        length = take(file, 1)[0]
        if length == 0:
            return
        file.seek(length, SEEK_CUR)
    raise Broken


HEAD: Final = 4096  # bytes that are kept
MAGIC: Final = 16  # bytes that determine the format
NO_WORDS: Final = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"\x1aE\xdf\xa3",
)  # no text begins like this
MAX_STEPS: Final = 500_000  # of a walk; beyond that, completeness is unknown


class Watcher:
    """Checks a file's completeness while its chunks are streamed."""

    def __init__(self) -> None:
        self.size = 0  # bytes so far
        self.head = b""
        self._walk: Walk | None = None
        self._need: Need | None = None  # what the walk waits for; None: it has ended or not begun
        self._received = bytearray()  # the part of the need so far
        self._skipped = 0
        self._steps = 0
        self._verdict: bool | None = None  # of a walk that has ended

    def see(self, chunk: bytes) -> None:
        """Process the next bytes."""
        if len(self.head) < HEAD:
            self.head += chunk[: HEAD - len(self.head)]
        begins = self.size < MAGIC <= self.size + len(chunk)
        self.size += len(chunk)
        if begins and (walk := walk_of(self.head)) is not None:
            self._walk = walk
            self._advance(None)
            chunk = self.head + chunk[len(chunk) - (self.size - len(self.head)) :]
        if self._need is not None:
            self._feed(chunk)

    @property
    def whole(self) -> bool | None:
        """Whether the file is complete; None if its format does not mark its end."""
        if self._walk is None:
            return False if self._is_beginning() else None
        if self._need is None:
            return self._verdict
        if self._skipped or (self._received and self._need.end is not True):
            return False
        return self._need.end

    def _is_beginning(self) -> bool:
        """Whether the bytes so far are an incomplete magic of a known format."""
        if not 0 < self.size < MAGIC:
            return False
        begins = any(magic.startswith(self.head) for magic in NO_WORDS)
        return begins or walk_of(self.head.ljust(MAGIC, b"\0")) is not None

    def _feed(self, chunk: bytes) -> None:
        at = 0
        while at < len(chunk) and (need := self._need) is not None:
            if need.until is not None:
                at = self._search(need, chunk, at)
            elif need.skip:
                step = min(need.skip - self._skipped, len(chunk) - at)
                self._skipped, at = self._skipped + step, at + step
                if self._skipped == need.skip:
                    self._advance(b"")
            else:
                part = chunk[at : at + need.size - len(self._received)]
                self._received, at = self._received + part, at + len(part)
                if len(self._received) == need.size:
                    self._advance(bytes(self._received))

    def _search(self, need: Need, chunk: bytes, at: int) -> int:
        """Search for a pattern of two bytes, also across two chunks; returns the next position."""
        assert need.until is not None
        if self._received and (match := need.until.match(self._received + chunk[at : at + 1])):
            self._advance(match[0])
            return at + 1
        if (match := need.until.search(chunk, at)) is not None:
            self._advance(match[0])
            return match.end()
        self._received = bytearray(chunk[-1:])
        return len(chunk)

    def _advance(self, content: bytes | None) -> None:
        """Send the walk the bytes that it needs, and get its next need."""
        assert self._walk is not None
        try:
            while True:
                self._received, self._skipped = bytearray(), 0
                self._steps += 1
                if self._steps > MAX_STEPS:
                    self._need = None
                    return
                self._need = next(self._walk) if content is None else self._walk.send(content)
                if self._need.size or self._need.skip or self._need.until:
                    return
                content = b""
        except StopIteration as ended:
            self._need, self._verdict = None, ended.value
