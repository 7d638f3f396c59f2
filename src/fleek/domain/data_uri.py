"""``data:`` URIs, read as browsers read them.

Source: RFC 2397 and https://fetch.spec.whatwg.org/#data-url-processor. More lenient than browsers
where the bytes are unambiguous: URL-safe base64, a comma inside a quoted parameter, a ``base64``
that is not the last parameter.
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from itertools import chain
from typing import Final
from urllib.parse import unquote_to_bytes

from fleek.domain.text import BLANKS, strip_unstorable

_TOKEN: Final = r"[\w!$&^.*+-]+"  # noqa: S105 - a part of a media type
_HEAD: Final = re.compile(
    rf"data:\s*+((?P<type>{_TOKEN}/{_TOKEN}|(?={_TOKEN}?\s*+;\s*+base64\s*+,){_TOKEN}|)\s*+"
    r'(?P<parameters>(?:;(?:[^",]|"[^"]*")*+)?)|(?P<bare>base64)),',
    re.IGNORECASE | re.ASCII,
)
_BEGINNING: Final = re.compile(rf"data:({_TOKEN}/{_TOKEN})?(;\S*)?", re.IGNORECASE | re.ASCII)
_FRAGMENT: Final = re.compile(r"#[^\s\"<>`#]*\Z")
_TO_REMOVE: Final = {ord(blank): None for blank in "\t\n\r"}
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_WHITESPACE: Final = b"\t\n\x0c\r "


class DataUriUnreadable(ValueError):
    """The text is not a ``data:`` URI, or its base64 is invalid."""


def is_data_uri(text: str) -> bool:
    """Whether a text is a ``data:`` URI, not a sentence with the same beginning."""
    start = len(text) - len(text.lstrip(BLANKS))
    return _HEAD.match(text, start) is not None


def is_cut_data_uri(text: str) -> bool:
    """Whether a text is a ``data:`` URI without its data."""
    return len(text) > len("data:") and _BEGINNING.fullmatch(text) is not None


def storable_uri(text: str) -> str:
    """Return the URI without characters that databases reject: NUL and lone surrogates."""
    return strip_unstorable(text.strip(BLANKS).replace("\0", "%00"))


def media_type(text: str) -> str:
    """Return the media type at the beginning of a ``data:`` URI, in lower case; "" if none."""
    head = _HEAD.match(text.lstrip(BLANKS))
    return "" if head is None else (head["type"] or "").lower()


def decode(pieces: Iterator[str]) -> Iterator[bytes]:
    """Decode the pieces of a ``data:`` URI; the first piece must contain its whole head.

    Each step takes time proportional to the piece.

    Raises:
        DataUriUnreadable: It is not a ``data:`` URI, or its base64 is invalid.
    """
    begun = next(pieces, "").lstrip(BLANKS)
    head = _HEAD.match(begun)
    if head is None:
        raise DataUriUnreadable("the text is not a data: URI")
    texts = _bodies(chain((begun[head.end() :],), pieces))
    if head["bare"] or _says_base64(head["parameters"] or ""):
        return _from_base64(_unquoted(texts))
    return _unquoted(texts)


def _bodies(pieces: Iterator[str]) -> Iterator[str]:
    """Yield the pieces without a fragment, which begins in one of the last two."""
    held, last = "", ""
    for piece in pieces:
        yield held
        held, last = last, piece
    yield _FRAGMENT.sub("", (held + last).rstrip(BLANKS).translate(_TO_REMOVE))


def _unquoted(pieces: Iterator[str]) -> Iterator[bytes]:
    rest = ""
    for piece in pieces:
        text = rest + strip_unstorable(piece.replace("\0", "%00")).translate(_TO_REMOVE)
        cut = text.rfind("%", max(len(text) - 2, 0))
        text, rest = (text, "") if cut < 0 else (text[:cut], text[cut:])
        yield unquote_to_bytes(text)
    yield unquote_to_bytes(rest)


def _says_base64(parameters: str) -> bool:
    unquoted = re.sub(r'"[^"]*"', "", parameters)
    return any(part.strip(BLANKS).lower() == "base64" for part in unquoted.split(";"))


def _from_base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decode as browsers do: blanks are ignored, and the padding is optional."""
    rest, padded = b"", False
    for piece in pieces:
        bare = piece.translate(_URL_SAFE, delete=_WHITESPACE)
        unpadded = bare.rstrip(b"=")
        if padded and unpadded:
            raise DataUriUnreadable("the data is not base64")
        padded = padded or unpadded != bare
        bare = rest + unpadded
        whole = len(bare) - len(bare) % 4
        rest = bare[whole:]
        yield _base64(bare[:whole])
    if len(rest) == 1:
        raise DataUriUnreadable("the base64 ends in the middle of a byte")
    yield _base64(rest + b"=" * (-len(rest) % 4))


def _base64(encoded: bytes) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except ValueError as error:
        raise DataUriUnreadable("the data is not base64") from error
