"""Strict JSON: input that parsers interpret differently is rejected.

Python's own parser lets through doubled keys, NaN, numbers that no database holds, and halves of
characters that cannot be written out again. Each of them would come back later as a surprise.
"""

import re
from json import JSONDecodeError, JSONDecoder, JSONEncoder
from math import isinf
from typing import Any, Final, NoReturn

from fleek.domain.errors import Unreadable
from fleek.domain.text import UNSTORABLE

MAX_DEPTH: Final = 32
"""Containers within one another, the outermost included."""

MAX_NODES: Final = 5000
"""Values in all, containers included, keys not."""

INT_LIMIT: Final = 2**63
"""Whole numbers are signed and have 64 bits."""

QUOTES_PER_NODE: Final = 4  # of a string, and of its key

_BRACKETS: Final = re.compile(rb"[\[\]{}]")


def loads(data: bytes) -> Any:
    """Return the value that `data` holds: exactly one, in UTF-8 without a byte order mark.

    Raises:
        Unreadable: It is not JSON, or it is JSON that is not read alike everywhere. The message
            never holds any of it.
    """
    if not data:
        raise Unreadable("must be JSON: nothing was sent")
    check_shape(data)
    try:
        value = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise Unreadable("must be JSON in UTF-8") from error
    except JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Unreadable(f"must be JSON: cannot be read at {where}") from error
    if b"\\u" in data:  # only an escape can name what UTF-8 cannot hold
        _check_strings(value)
    return value


def dumps(value: Any) -> bytes:
    """Return `value` as compact JSON in UTF-8, keys in their own order.

    Raises:
        ValueError: It holds a number that is not finite, or half a character.
        TypeError: It holds something that JSON has no form for.
    """
    return _ENCODER.encode(value).encode()


def check_shape(data: bytes, *, nodes: int = MAX_NODES, depth: int = MAX_DEPTH) -> None:
    """Refuse what is too deep or too large, before any of it is built; in linear time.

    Raises:
        Unreadable: It holds more values, or more levels. What is no JSON at all may pass.
    """
    openers = data.count(b"[") + data.count(b"{")
    if openers <= depth and openers + data.count(b",") < nodes:
        return  # cannot be too deep or too large, whatever its strings hold
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # each quote begins or ends a string
    if plain.count(b'"') > QUOTES_PER_NODE * nodes:
        raise Unreadable(f"must hold at most {nodes} values")
    bare = b"".join(plain.split(b'"')[::2])
    openers = bare.count(b"[") + bare.count(b"{")
    if 1 + openers + bare.count(b",") > nodes:
        raise Unreadable(f"must hold at most {nodes} values")
    level = 0
    for bracket in _BRACKETS.finditer(bare):
        level += 1 if bracket[0] in b"[{" else -1
        if level > depth:
            raise Unreadable(f"must be at most {depth} levels deep")
        if level < 0:
            return  # more ends than beginnings: the parser says where


def _check_strings(value: Any) -> None:
    if isinstance(value, str):
        if UNSTORABLE.search(value):
            raise Unreadable("must not hold the character U+0000 or half a surrogate pair")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(key)
            _check_strings(item)
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) != len(pairs):
        raise Unreadable("must not hold a key twice in one object")
    return built


def _int(digits: str) -> int:
    if len(digits) > 20 or not -INT_LIMIT <= (number := int(digits)) < INT_LIMIT:
        raise Unreadable("must hold whole numbers of at most 64 bits")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise Unreadable("must hold numbers that fit a double")
    return number


def _constant(_name: str) -> NoReturn:
    raise Unreadable("must be JSON: NaN and Infinity are not")


_DECODER: Final = JSONDecoder(
    object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_constant
)
_ENCODER: Final = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
