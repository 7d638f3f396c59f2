"""Handling of untrusted texts and bodies: cleaning for storage and display, and long ones in pieces.

A long call of the interpreter's C code blocks all threads, including the event loop. Long texts are
therefore handled in pieces.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from itertools import accumulate, chain
from typing import Final

BLANKS: Final = "".join(map(chr, range(0x21)))  # ignored around an address
PIECE: Final = 262_144  # characters or bytes per step
BLOCK: Final = 1_048_576  # bytes per block
LONGEST_COMPARED: Final = 64  # characters of a mistyped name
SIMILAR: Final = 0.7  # ratio of `difflib`
UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_CREDENTIALS: Final = re.compile(r"(?<=://)\S*@|(?<=Bearer )\S+|\b(?:r8|whsec)_\S+")


def strip_unstorable(text: str) -> str:
    """Return an untrusted text without characters that cannot be stored."""
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def without_credentials(text: str) -> str:
    """Return a library's message without tokens and passwords in addresses."""
    return _CREDENTIALS.sub("***", text)


def one_line(text: str, most: int) -> str:
    """Return an untrusted text as one printable line of at most `most` characters."""
    printable = (char if char.isprintable() else " " for char in text[: 4 * most])
    line = " ".join("".join(printable).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a mistyped one, or None.

    Case, hyphens and underscores do not count. A name of more than 64 characters is not compared.
    """
    if len(name) > LONGEST_COMPARED:
        return None
    folded = {_fold(candidate): candidate for candidate in known}
    matches = get_close_matches(_fold(name), folded, n=1, cutoff=SIMILAR)
    return folded[matches[0]] if matches else None


def _fold(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


class LongText:
    """A text in pieces, which are generated for each iteration.

    Args:
        pieces: Returns an iterator over the pieces.
        chars: The total number of characters.
    """

    def __init__(self, pieces: Callable[[], Iterator[str]], chars: int) -> None:
        self._pieces = pieces
        self._chars = chars

    def __iter__(self) -> Iterator[str]:
        return self._pieces()

    def __len__(self) -> int:
        return self._chars

    def __str__(self) -> str:
        return "".join(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return self is other
        if len(other) != self._chars:
            return False
        ends = accumulate(map(len, self))
        return all(
            other[end - len(piece) : end] == piece for end, piece in zip(ends, self, strict=True)
        )

    def __hash__(self) -> int:
        return hash(str(self))  # the same as that of an equal `str`

    @property
    def head(self) -> str:
        """The first piece."""
        return next(iter(self), "")


def pieces_of(text: str | LongText, size: int = PIECE) -> Iterator[str]:
    """Yield a text in pieces."""
    if isinstance(text, LongText):
        return iter(text)
    return (text[at : at + size] for at in range(0, len(text), size))


def head_of(text: str | LongText) -> str:
    """Return a text's first piece, or the whole of a short one."""
    return text if isinstance(text, str) else text.head


def ends_of(text: LongText) -> str:
    """Return a text's beginning and end, with a line break in between."""
    return f"{text.head}\n{''.join(deque(text, maxlen=2))}"


def joined(parts: Iterable[str | LongText], size: int = PIECE) -> str | LongText:
    """Return the concatenation of texts, in pieces if it is long."""
    texts = tuple(parts)
    chars = sum(map(len, texts))
    if chars <= size:
        return "".join(map(str, texts))
    return LongText(lambda: chain.from_iterable(map(pieces_of, texts)), chars)


class ChunkBuffer:
    """A received body in blocks, so that small chunks do not take more memory."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._newest = bytearray()
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Add the next bytes."""
        self._newest += chunk
        self.size += len(chunk)
        if len(self._newest) >= BLOCK:
            self._blocks.append(bytes(self._newest))
            self._newest.clear()

    def whole(self) -> bytes:
        """Return all bytes, joined in a way that lets other threads run."""
        return b"".join((*self._blocks, bytes(self._newest)))
