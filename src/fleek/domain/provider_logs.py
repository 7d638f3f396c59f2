"""What a provider logs of a prediction: a text that grows, and of which parts may be left out."""

import re
from collections.abc import Sequence
from typing import Final

from fleek.domain.text import LongText, ends_of, strip_unstorable
from fleek.domain.values import dataclass

MAX_BYTES: Final = 262_144  # of the logs of a job, in UTF-8; the latest are kept
MAX_READ: Final = 2 * MAX_BYTES  # characters of a log that are compared with what is stored
TAIL: Final = 256  # characters by which the place is found up to which a log is stored
LEFT_OUT: Final = "\n[Fleek: a part of this log was left out]\n"
"""Stands in a log for what is not known of it."""

_STEP: Final = re.compile(r"^\s*(\d{1,3})%\s*\|.+?\|\s*(\d{1,9})/(\d{1,9})")  # tqdm's


@dataclass(frozen=True, slots=True)
class PredictionLog:
    """The log of an attempt's prediction, as its provider shows it now."""

    attempt: int  # its number
    text: str


@dataclass(frozen=True, slots=True)
class LogPlace:
    """How far a log is stored."""

    read: int = 0  # characters of the provider's text
    tail: str = ""  # the last of them

    @classmethod
    def after(cls, text: str) -> "LogPlace":
        """Return the place at the end of a text."""
        return cls(len(text), text[-TAIL:])


NOTHING: Final = LogPlace()


def read_log(value: object) -> str | None:
    """Return an untrusted log as it can be stored, of a long one the end; None: there is none."""
    if isinstance(value, LongText):
        value = ends_of(value)
    if not isinstance(value, str) or not value:
        return None
    text = value if len(value) <= MAX_READ else LEFT_OUT + value[-MAX_READ:]
    return strip_unstorable(text)


def read_progress(lines: Sequence[str]) -> float | None:
    """Return the last progress in the lines of a log, 0.0-1.0; None: there is none."""
    for line in reversed(lines):
        if (match := _STEP.match(line)) and int(match[3]) > 0:
            return min(int(match[2]) / int(match[3]), 1.0)
    return None


def growth(place: LogPlace, text: str) -> str:
    """Return what has come to a log since a place; empty: nothing.

    The text may be an older state, lack its middle (`LEFT_OUT`), or have its last line written anew
    as progress bars are; that line then follows a carriage return.
    """
    head, cut, end = text.partition(LEFT_OUT)
    begin = place.read - len(place.tail)
    if head.startswith(place.tail, begin):
        return text[place.read :]
    if cut:
        return _behind_gap(place.tail, head, end)
    known = _common(place.tail, text[begin:])
    older = len(text) == begin + len(known) or (not known and len(text) <= place.read)
    if older:
        return ""
    if known and "\n" not in place.tail[len(known) :].rstrip("\n"):
        line = text.rfind("\n", begin, begin + len(known)) + 1
        return "\r" + text[max(line, begin) :]
    at = text.rfind(place.tail)
    return LEFT_OUT + text if at < 0 else text[at + len(place.tail) :]


def _common(first: str, second: str) -> str:
    """Return how two texts begin alike."""
    pairs = enumerate(zip(first, second, strict=False))
    differs = (at for at, (one, other) in pairs if one != other)
    return first[: next(differs, min(len(first), len(second)))]


def _behind_gap(tail: str, head: str, end: str) -> str:
    """Return what has come to a log of which only the beginning and the end are known."""
    at = end.rfind(tail)
    if at >= 0:
        return end[at + len(tail) :]
    at = head.rfind(tail)
    return (head[at + len(tail) :] if at >= 0 else "") + LEFT_OUT + end
