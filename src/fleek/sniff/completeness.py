"""Detection of truncated files from their own format, while they are streamed.

HTTP does not always tell: a server may say a length that is too short, or no length at all and
simply close the connection. Most media formats know their end. What comes behind it, such as
padding, does no harm: every program that shows such a file passes over it.
"""

from typing import Final

from fleek.sniff.containers import Need, Walk, walk_of

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
        self._given = bytearray()  # of what it needs
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
        if self._skipped or (self._given and self._need.end is not True):
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
                taken = chunk[at : at + need.size - len(self._given)]
                self._given, at = self._given + taken, at + len(taken)
                if len(self._given) == need.size:
                    self._advance(bytes(self._given))

    def _search(self, need: Need, chunk: bytes, at: int) -> int:
        """Look for a pattern of two bytes, which two chunks may share; returns where to go on."""
        assert need.until is not None
        if self._given and (match := need.until.match(self._given + chunk[at : at + 1])):
            self._advance(match[0])
            return at + 1
        if (match := need.until.search(chunk, at)) is not None:
            self._advance(match[0])
            return match.end()
        self._given = bytearray(chunk[-1:])
        return len(chunk)

    def _advance(self, given: bytes | None) -> None:
        """Hand the walk what it needed, and learn what it needs next."""
        assert self._walk is not None
        try:
            while True:
                self._given, self._skipped = bytearray(), 0
                self._steps += 1
                if self._steps > MAX_STEPS:
                    self._need = None
                    return
                self._need = next(self._walk) if given is None else self._walk.send(given)
                if self._need.size or self._need.skip or self._need.until:
                    return
                given = b""
        except StopIteration as ended:
            self._need, self._verdict = None, ended.value
