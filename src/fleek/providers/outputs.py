"""A prediction's output, of any shape, as a list of files."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from fleek.domain.media import Output
from fleek.domain.text import UNSTORABLE
from fleek.outbound import MAX_URL

MOST: Final = 64  # files of one prediction
MAX_DEPTH: Final = 16
MAX_VALUES: Final = 10_000  # looked at in search of files

_URL: Final = re.compile(r"https?://[^\s\\\"<>]+", re.ASCII)
_DATA: Final = re.compile(r"data:[\w.+/-]*(;[\w.+-]+=[\w.+-]+)*(;base64)?,", re.ASCII)


class OutputUnreadable(ValueError):
    """The output has more files than any model makes, or is nested without end."""


def read_outputs(output: Any) -> tuple[Output, ...]:
    """Return the files of an output in the order in which they stand there.

    A list of words, as language models give, is one text. What holds no file at all and is not
    empty is kept as it is, as JSON.

    Raises:
        OutputUnreadable: There are too many, or they are nested too deeply.
    """
    if output is None or output in ("", [], {}):
        return ()
    if isinstance(output, str):
        return (_file(output) or _text(output),)
    found = list(_files(output))
    if len(found) > MOST:
        raise OutputUnreadable(f"the output has more than {MOST} files")
    if found:
        return tuple(found)
    if isinstance(output, list) and all(isinstance(part, str) for part in output):
        return (_text("".join(output)),) if any(output) else ()
    return () if _is_hollow(output) else (_text(json.dumps(output, ensure_ascii=False)),)


def _files(value: Any) -> Iterator[Output]:
    """Walk through the output, without recursion: the shape is somebody else's."""
    ahead: list[tuple[Any, int]] = [(value, 0)]
    looked_at = 0
    while ahead:
        looked_at += 1
        current, depth = ahead.pop()
        if depth > MAX_DEPTH or looked_at > MAX_VALUES:
            raise OutputUnreadable("the output is nested too deeply, or too large")
        if isinstance(current, str) and (file := _file(current)):
            yield file
        inner = list(current.values()) if isinstance(current, dict) else current
        if isinstance(inner, list):
            ahead.extend((one, depth + 1) for one in reversed(inner))


def _file(text: str) -> Output | None:
    if len(text) <= MAX_URL and _URL.fullmatch(text):
        return Output(uri=text)
    return Output(uri=text) if _DATA.match(text) else None


def _text(text: str) -> Output:
    if not UNSTORABLE.search(text):
        return Output(text=text)
    encoded = base64.b64encode(text.encode("utf-8", "replace")).decode()
    return Output(uri=f"data:text/plain;base64,{encoded}")


def _is_hollow(value: Any) -> bool:
    """Whether there is nothing in it but empty places, such as ``{"file": None}``."""
    if isinstance(value, dict):
        return all(map(_is_hollow, value.values()))
    if isinstance(value, list):
        return all(map(_is_hollow, value))
    return value is None or value == ""
