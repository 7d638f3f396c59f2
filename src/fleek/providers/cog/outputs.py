"""A prediction's outputs: whatever shape they come in, a flat list of files and texts."""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from fleek.domain.errors import OutputBroken
from fleek.domain.media import Output

CHUNK_CHARS: Final = 4 * 65_536  # of base64, a multiple of four

_ADDRESS: Final = re.compile(r"(?:data:[^,]{0,255},|https?://)", re.IGNORECASE)
_BASE64: Final = re.compile(r"data:[^,]{0,255};base64,", re.IGNORECASE)
_UNUSABLE: Final = re.compile("[\0\ud800-\udfff]")


def outputs(told: Any) -> tuple[Output, ...]:
    """Return the files in `told`, in its order; else all of it as one text; else nothing.

    A list of strings without any file is what a language model says bit by bit: it is joined.
    """
    files = tuple(Output(uri=leaf) for leaf in _leaves(told) if _is_address(leaf))
    if files or told is None:
        return files
    text = told if isinstance(told, str) else _written(told)
    return (Output(text=storable(text)),) if text else ()


def data_uri(uri: str) -> Iterator[bytes]:
    """Decode a ``data:`` URI with base64 content, a part at a time.

    Raises:
        OutputBroken: It is not one.
    """
    head = _BASE64.match(uri)
    if head is None:
        raise OutputBroken("the output is not base64 in a data URI")
    for start in range(head.end(), len(uri), CHUNK_CHARS):
        try:
            yield base64.b64decode(uri[start : start + CHUNK_CHARS], validate=True)
        except (binascii.Error, ValueError) as error:
            raise OutputBroken("the output is not valid base64") from error


def storable(text: str) -> str:
    """Return the text without what no database holds: U+0000, halves of characters."""
    return _UNUSABLE.sub("\ufffd", text)


def _is_address(leaf: Any) -> bool:
    return isinstance(leaf, str) and _ADDRESS.match(leaf) is not None


def _leaves(told: Any) -> Iterator[Any]:
    """Give what is in `told`, without recursion: the nesting is the server's choice."""
    stack = [told]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            stack.extend(reversed(one.values()))
        elif isinstance(one, list):
            stack.extend(reversed(one))
        else:
            yield one


def _written(told: Any) -> str:
    if isinstance(told, list) and all(isinstance(part, str) for part in told):
        return "".join(told)
    return json.dumps(told, ensure_ascii=False)
