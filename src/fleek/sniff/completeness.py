"""Detection of truncated files from their own format, while they are streamed.

HTTP does not always tell: a server may say a length that is too short, or no length at all and
simply close the connection. Most media formats know their end. What comes behind it, such as
padding, does no harm: every program that shows such a file passes over it.
"""

import struct
from collections.abc import Container, Iterator
from io import SEEK_CUR, SEEK_END
from typing import BinaryIO, Final

from fleek.sniff.containers import Need, Walk, walk_of

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
    part = file.read(length)
    if len(part) < length:
        raise Broken
    return part


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


HEAD: Final = 4096  # bytes that are kept
MAGIC: Final = 16  # bytes that tell the format
NO_WORDS: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\x1aE\xdf\xa3")  # no text begins so
MAX_STEPS: Final = 500_000  # of a walk; a file of so many parts is not told to be whole


class Watcher:
    """Sees each chunk of a file and then says what it makes of them."""

    def __init__(self) -> None:
        self.size = 0  # bytes so far
        self.head = b""
        self._walk: Walk | None = None
        self._need: Need | None = (
            None  # what the walk waits for; None: it is over, or has not begun
        )
        self._received = bytearray()  # of what it needs
        self._skipped = 0
        self._steps = 0
        self._verdict: bool | None = None  # of a walk that is over

    def see(self, chunk: bytes) -> None:
        """Take note of the next bytes."""
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
        """Whether the file is all there; None if its format does not tell."""
        if self._walk is None:
            return False if self._is_beginning() else None
        if self._need is None:
            return self._verdict
        if self._skipped or (self._received and self._need.end is not True):
            return False
        return self._need.end

    def _is_beginning(self) -> bool:
        """Whether the few bytes that have come begin a file of a format that has more of them."""
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
        """Look for a pattern of two bytes, which two chunks may share; returns where to go on."""
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
        """Hand the walk what it needed, and learn what it needs next."""
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
