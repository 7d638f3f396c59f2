"""A lenient JSON parser for providers' responses, with limits.

A large body is read token by token: no step handles more than `PIECE` bytes, and the event loop
runs between the steps. In a body above `WHOLE` bytes, a string that is longer than a piece becomes
a `LongText`, whose pieces are decoded from the body on demand: the memory holds the body once, and
all other values.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, Final

from fleek import strict
from fleek.domain.errors import Unreadable
from fleek.domain.text import PIECE, LongText

MAX_NODES: Final = 250_000
MAX_DEPTH: Final = 100
MAX_KEY: Final = 4 * PIECE  # characters
WHOLE: Final = 5 * 1_048_576  # bytes; smaller bodies have no `LongText`
MAX_SCALAR: Final = 5000  # characters of a number
ON_LOOP: Final = 65_536  # bytes; smaller bodies are parsed and read on the event loop

_BLANKS: Final = re.compile(rb"[ \t\n\r]*+")
_SCALAR: Final = re.compile(rb"[-+.\w]{1,%d}" % MAX_SCALAR)
_STRING: Final = re.compile(  # complete escapes only
    rb'[^"\\]*+(?:\\(?:u[0-9A-Fa-f]{4}|[^u])[^"\\]*+)*+'
)
_HALF_PAIR: Final = re.compile(rb"\\u[dD][89abAB][0-9A-Fa-f]{2}\Z")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_TOO_COMPLEX: Final = "not JSON, or too complex"


class NotJson(ValueError):
    """The body is not JSON, or its nesting or number of values exceeds the limits."""


def parse(body: bytes, *, piece: int = PIECE, whole: int = WHOLE) -> Any:
    """Return the value in a body; beyond `whole` bytes, strings of more than `piece` are `LongText`.

    Raises:
        NotJson: It is not JSON within the limits.
    """
    try:
        if len(body) > piece:
            longest = whole if len(body) <= whole else piece
            return _Reader(body, piece, longest).whole()
        strict.check_shape(body, nodes=MAX_NODES, depth=MAX_DEPTH)
        return json.loads(body)
    except (Unreadable, ValueError, RecursionError) as error:
        raise NotJson(_TOO_COMPLEX) from error


async def parse_aside(body: bytes) -> Any:
    """Parse a body, a large one in a thread; raises as `parse` does."""
    return parse(body) if len(body) <= ON_LOOP else await asyncio.to_thread(parse, body)


class _Reader:
    """Reads one body, a token at a time."""

    def __init__(self, body: bytes, piece: int, longest: int) -> None:
        self._body = body
        self._piece = piece
        self._longest = longest  # bytes of a plain string
        self._at = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0
        self._nodes = 0

    def whole(self) -> Any:
        """Return the one value in the body."""
        value = self._value(0)
        if self._next():
            raise NotJson(_TOO_COMPLEX)
        return value

    def _value(self, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise NotJson(_TOO_COMPLEX)
        match self._next():
            case b'"':
                cuts, chars = self._string()
                pieces = partial(_pieces, self._body, cuts)
                short = cuts[-1] - cuts[0] <= self._longest
                return "".join(pieces()) if short else LongText(pieces, chars)
            case b"{":
                return self._object(depth + 1)
            case b"[":
                return self._list(depth + 1)
            case _:
                return self._scalar()

    def _object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self._take(b"{")
        if depth > MAX_DEPTH:
            raise NotJson(_TOO_COMPLEX)
        if self._next() == b"}":
            self._take(b"}")
            return members
        while True:
            key = self._key()
            self._take(b":")
            members[key] = self._value(depth)
            if self._next() == b"}":
                self._take(b"}")
                return members
            self._take(b",")

    def _list(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self._take(b"[")
        if depth > MAX_DEPTH:
            raise NotJson(_TOO_COMPLEX)
        if self._next() == b"]":
            self._take(b"]")
            return items
        while True:
            items.append(self._value(depth))
            if self._next() == b"]":
                self._take(b"]")
                return items
            self._take(b",")

    def _key(self) -> str:
        if self._next() != b'"':
            raise NotJson(_TOO_COMPLEX)
        cuts, chars = self._string()
        if chars > MAX_KEY:
            raise NotJson(_TOO_COMPLEX)
        return "".join(_pieces(self._body, cuts))

    def _scalar(self) -> Any:
        match = _SCALAR.match(self._body, self._at)
        if match is None:
            raise NotJson(_TOO_COMPLEX)
        self._at = match.end()
        return json.loads(match[0])

    def _string(self) -> tuple[list[int], int]:
        """Skip a string; returns the bounds of its pieces and its number of characters."""
        cuts, chars = [self._at + 1], 0
        while True:
            begin = cuts[-1]
            match = _STRING.match(self._body, begin, begin + self._piece)
            assert match is not None
            end = match.end()
            if self._body[end : end + 1] == b'"':
                cuts.append(end)
                self._at = end + 1
                return cuts, chars + len(_text(self._body[begin:end]))
            end = self._whole_characters(begin, end)
            if end == begin:
                raise NotJson(_TOO_COMPLEX)
            cuts.append(end)
            chars += len(_text(self._body[begin:end]))

    def _whole_characters(self, begin: int, end: int) -> int:
        """Return the end of a piece, moved so that no character is split."""
        while begin < end < len(self._body) and self._body[end] & 0xC0 == 0x80:
            end -= 1
        raw = self._body[begin:end]
        if _HALF_PAIR.search(raw, max(len(raw) - 6, 0)) and "\ud800" <= _text(raw)[-1] <= "\udbff":
            end -= 6 if end - begin > 6 else 0
        return end

    def _next(self) -> bytes:
        """Skip blanks and return the byte after them; b"" at the end."""
        while True:
            match = _BLANKS.match(self._body, self._at, self._at + self._piece)
            assert match is not None
            at, self._at = self._at, match.end()
            if self._at - at < self._piece:
                return self._body[self._at : self._at + 1]

    def _take(self, mark: bytes) -> None:
        if self._next() != mark:
            raise NotJson(_TOO_COMPLEX)
        self._at += 1


def _pieces(body: bytes, cuts: list[int]) -> Iterator[str]:
    for begin, end in pairwise(cuts):
        yield _text(body[begin:end])


def _text(raw: bytes) -> str:
    """Return the text between the quotes of a JSON string."""
    text: str = json.loads(f'"{raw.decode("utf-8", "surrogatepass")}"')
    return text
