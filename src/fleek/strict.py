"""Strict JSON: input that parsers interpret differently is rejected.

Python's parser accepts duplicate keys, NaN, numbers outside the range of databases, and lone
surrogates, which cannot be encoded again. Each would cause errors later.
"""

import re
from json import JSONDecodeError, JSONDecoder, JSONEncoder
from math import isinf
from typing import Any, Final, NoReturn

from fleek.domain.errors import Unreadable
from fleek.domain.text import UNSTORABLE

MAX_DEPTH: Final = 32
"""Maximum nesting of containers, including the outermost."""

MAX_NODES: Final = 5000
"""Maximum number of values, including containers, without keys."""

INT_LIMIT: Final = 2**63
"""Integers are signed and have 64 bits."""

QUOTES_PER_NODE: Final = 4  # of a string, and of its key

_BRACKETS: Final = re.compile(rb"[\[\]{}]")


def loads(data: bytes) -> Any:
    """Return the single value in `data`, in UTF-8 without a byte order mark.

    Raises:
        Unreadable: It is not JSON, or JSON that parsers interpret differently. The message never
        contains any of it.
    """
    if not data:
        raise Unreadable("must be JSON: the body is empty")
    check_shape(data)
    try:
        value = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise Unreadable("must be JSON in UTF-8") from error
    except JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Unreadable(f"must be JSON: cannot be read at {where}") from error
    if b"\\u" in data:  # only escapes can encode what UTF-8 cannot
        _check_strings(value)
    return value


def dumps(value: Any) -> bytes:
    """Return `value` as compact JSON in UTF-8, keys in their own order.

    Raises:
        ValueError: It contains a number that is not finite, or a lone surrogate.
        TypeError: It contains a type that JSON does not have.
    """
    return _ENCODER.encode(value).encode()


def canonical(value: Any) -> bytes:
    """Return `value` as `dumps` does, with sorted keys: equal values have one form.

    Raises:
        ValueError: See `dumps`.
        TypeError: See `dumps`.
    """
    return _CANONICAL.encode(value).encode()


def check_shape(data: bytes, *, nodes: int = MAX_NODES, depth: int = MAX_DEPTH) -> None:
    """Check the depth and the number of values before parsing, in linear time.

    Raises:
        Unreadable: It has too many values or levels. Invalid JSON may pass.
    """
    openers = data.count(b"[") + data.count(b"{")
    if openers <= depth and openers + data.count(b",") < nodes:
        return  # too few brackets and commas, even if none is in a string
    plain = data.replace(b"\\\\", b"").replace(
        b'\\"', b""
    )  # now each quote begins or ends a string
    if plain.count(b'"') > QUOTES_PER_NODE * nodes:
        raise Unreadable(f"must contain at most {nodes} values")
    bare = b"".join(plain.split(b'"')[::2])
    openers = bare.count(b"[") + bare.count(b"{")
    if 1 + openers + bare.count(b",") > nodes:
        raise Unreadable(f"must contain at most {nodes} values")
    level = 0
    for bracket in _BRACKETS.finditer(bare):
        level += 1 if bracket[0] in b"[{" else -1
        if level > depth:
            raise Unreadable(f"must be at most {depth} levels deep")
        if level < 0:
            return  # unbalanced: the parser reports the position


def _check_strings(value: Any) -> None:
    if isinstance(value, str):
        if UNSTORABLE.search(value):
            raise Unreadable("must not contain the character U+0000 or half a surrogate pair")
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
        raise Unreadable("must not contain a key twice in one object")
    return built


def _int(digits: str) -> int:
    if len(digits) > 20 or not -INT_LIMIT <= (number := int(digits)) < INT_LIMIT:
        raise Unreadable("must contain whole numbers of at most 64 bits")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise Unreadable("must contain numbers that fit a double")
    return number


def _constant(_name: str) -> NoReturn:
    raise Unreadable("must be JSON: NaN and Infinity are not")


_DECODER: Final = JSONDecoder(
    object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_constant
)
_ENCODER: Final = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_CANONICAL: Final = JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
)
