"""``data:`` URIs, read as browsers read them.

Source: RFC 2397 and https://fetch.spec.whatwg.org/#data-url-processor. Where browsers give up and
the bytes are beyond doubt, this goes on: URL-safe base64, a comma inside a quoted parameter, a
``base64`` that is not the last parameter.
"""

import re
from base64 import b64decode
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from fleek.domain.text import storable
from fleek.outbound import BLANKS

_TOKEN: Final = r"[\w!$&^.*+-]+"  # noqa: S105 - a part of a media type
_HEAD: Final = re.compile(
    rf"data:\s*((?P<type>{_TOKEN}/{_TOKEN}|(?={_TOKEN}?\s*;\s*base64\s*,){_TOKEN}|)\s*"
    r'(?P<parameters>(?:;(?:[^",]|"[^"]*")*+)?)|(?P<bare>base64)),',
    re.IGNORECASE | re.ASCII,
)
_BEGINNING: Final = re.compile(rf"data:({_TOKEN}/{_TOKEN})?(;\S*)?", re.IGNORECASE | re.ASCII)
_FRAGMENT: Final = re.compile(r"#[^\s\"<>`#]*\Z")
_TO_REMOVE: Final = {ord(blank): None for blank in "\t\n\r"}
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_WHITESPACE: Final = b"\t\n\x0c\r "


class DataUriUnreadable(ValueError):
    """The text is no ``data:`` URI, or its base64 is none."""


@dataclass(frozen=True, slots=True)
class DataUri:
    """What a ``data:`` URI holds."""

    media_type: str  # lower case, without parameters; "" if it names none
    content: bytes


def is_data_uri(text: str) -> bool:
    """Whether a text is a ``data:`` URI, and not words that begin like one."""
    start = len(text) - len(text.lstrip(BLANKS))
    return _HEAD.match(text, start) is not None


def is_cut_data_uri(text: str) -> bool:
    """Whether a text is the beginning of a ``data:`` URI that ends before its data."""
    return len(text) > len("data:") and _BEGINNING.fullmatch(text) is not None


def storable_uri(text: str) -> str:
    """Return the same URI without what no database takes: NUL and halves of characters."""
    return storable(text.strip(BLANKS).replace("\0", "%00"))


def decode(text: str) -> DataUri:
    """Return what a ``data:`` URI holds. Takes time in proportion to its length.

    Raises:
        DataUriUnreadable: It is none, or what follows is not the base64 that it says.
    """
    text = text.strip(BLANKS)
    head = _HEAD.match(text)
    if head is None:
        raise DataUriUnreadable("the text is no data: URI")
    body = _FRAGMENT.sub("", text[head.end() :].translate(_TO_REMOVE))
    content = unquote_to_bytes(storable(body))
    if head["bare"] or _says_base64(head["parameters"] or ""):
        content = _from_base64(content)
    return DataUri(media_type=(head["type"] or "").lower(), content=content)


def _says_base64(parameters: str) -> bool:
    unquoted = re.sub(r'"[^"]*"', "", parameters)
    return any(one.strip(BLANKS).lower() == "base64" for one in unquoted.split(";"))


def _from_base64(encoded: bytes) -> bytes:
    """Decode as browsers do: blanks do not count, and the padding may be missing."""
    bare = encoded.translate(_URL_SAFE, delete=_WHITESPACE).rstrip(b"=")
    if len(bare) % 4 == 1:
        raise DataUriUnreadable("the base64 ends in the middle of a byte")
    try:
        return b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except ValueError as error:
        raise DataUriUnreadable("the data is not base64") from error
