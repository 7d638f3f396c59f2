"""The reason of a provider's refusal or failure, extracted from a value of any form."""

import json
import re
from collections.abc import Iterator, Mapping
from html import unescape
from itertools import islice
from typing import Any, Final

from fleek.domain.text import LongText, head_of, one_line
from fleek.providers.foreign_json import NotJson, parse

UNSTATED: Final = "no reason given"

MAX_PARSED: Final = 65_536  # maximum bytes of a body to be parsed as JSON
MAX_CHARS: Final = 10_000  # of a text that are read
MAX_DEPTH: Final = 6
MAX_PARTS: Final = 20  # of a list, or an object
MAX_VALUES: Final = 200  # that are read

_WORDS: Final = (
    *("detail", "message", "msg", "error_description", "description", "reason"),
    *("error", "errors", "title", "type"),
)
_PLACES: Final = frozenset({"body", "input"})  # parts of every request, so omitted

_PAGE: Final = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_INVISIBLE: Final = re.compile(r"<(?:script|style)\b[^<]*", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^<>]*>")


def read_reason(value: Any, most: int, otherwise: str = UNSTATED) -> str:
    """Return the text in a value of any shape, as one printable line of at most `most` characters.

    `otherwise` is returned if there is none.
    """
    return one_line(_Reader().words(value), most) or otherwise


def reason_of_body(body: bytes, most: int) -> str:
    """Return the text in a response's body: JSON of any shape, a page, or plain text."""
    if len(body) <= MAX_PARSED:
        try:
            return read_reason(parse(body), most)
        except NotJson:
            pass
    return read_reason(body[: 4 * MAX_CHARS].decode("utf-8", "replace"), most)


class _Reader:
    """One extraction, with its remaining budget."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def words(self, value: Any, depth: int = 0) -> str:
        """Return the text in a value."""
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH or isinstance(value, bool):
            return ""
        if isinstance(value, str | LongText):
            return _text(head_of(value)[:MAX_CHARS])
        if isinstance(value, int | float):
            return json.dumps(value)
        if isinstance(value, list):
            parts = (self.words(part, depth + 1) for part in value[:MAX_PARTS])
            return "; ".join(part for part in parts if part)
        return self._labelled(value, depth) if isinstance(value, dict) else ""

    def _labelled(self, value: Mapping[str, Any], depth: int) -> str:
        """Return the first text under a usual name, with its location and code."""
        usual = (self.words(value[name], depth + 1) for name in _WORDS if name in value)
        reason = next(filter(None, usual), "")
        if not reason:
            return "; ".join(self._members(value, depth))
        place, code = _place(value.get("loc")), value.get("code")
        if isinstance(code, str | int) and (label := self.words(code, depth + 1)) not in reason:
            reason = f"{reason} ({label})"
        return f"{place}: {reason}" if place else reason

    def _members(self, value: Mapping[str, Any], depth: int) -> Iterator[str]:
        for name in islice(value, MAX_PARTS):
            if words := self.words(value[name], depth + 1):
                yield f"{name[:100]}: {words}"


def _place(loc: Any) -> str:
    parts = loc[:MAX_PARTS] if isinstance(loc, list) else []
    names = [str(part)[:100] for part in parts if isinstance(part, str | int)]
    while names and names[0] in _PLACES:
        names.pop(0)
    return "/".join(names)


def _text(text: str) -> str:
    """Return a text unchanged, or the visible text of a page."""
    if not _PAGE.match(text):
        return text
    return unescape(_TAG.sub(" ", _INVISIBLE.sub(" ", text)))
