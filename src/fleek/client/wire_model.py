"""Values of the wire format in the client: read from JSON, and written as JSON again.

The client has no library for this, as it would be most of what it installs and imports. `models` has
the classes, which are made from those of the server.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Final, Self, Union, cast, get_args, get_origin, get_type_hints
from uuid import UUID

Reader = Callable[[Any], Any]
SHOWN: Final = 60  # characters of a text in a `repr`


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WireModel:
    """A value of the wire format. Fields that a newer server adds are ignored."""

    SHOWN: ClassVar[tuple[str, ...]] = ()
    """Fields in `repr`; none: all of them but secrets."""

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read a JSON object.

        Raises:
            ValueError: It is not one of this kind.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"is not an object, but a {type(value).__name__}")
        readers, required = _readers(cast("Any", cls))  # mypy: a class is hashable
        missing = required - value.keys()
        if missing:
            raise ValueError(f"{min(missing)} is missing")
        return cls(**{name: read(value[name]) for name, read in readers.items() if name in value})

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}

    def __repr__(self) -> str:
        names = self.SHOWN or tuple(each.name for each in fields(self) if each.name != "secret")
        values = ((name, getattr(self, name)) for name in names)
        shown = ", ".join(f"{name}={_brief(value)}" for name, value in values if value is not None)
        return f"{type(self).__name__}({shown})"


def _brief(value: Any) -> str:
    if isinstance(value, UUID | Enum | datetime):
        value = _plain(value)
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, WireModel):
        return value.to_dict()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@cache
def _readers(kind: Any) -> tuple[Mapping[str, Reader], frozenset[str]]:
    """Return what reads each field, and the fields that must be there."""
    hints = get_type_hints(kind)
    named = [each.name for each in fields(kind)]
    required = kind.__init__.__kwdefaults__ or {}
    return (
        {name: _reader(hints[name]) for name in named},
        frozenset(name for name in named if name not in required),
    )


@cache
def _reader(kind: Any) -> Reader:
    origin, args = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        return _optional(_reader(next(each for each in args if each is not NoneType)))
    if origin is list:
        return _list(_reader(args[0]))
    if origin is dict:
        return _dict(_reader(args[0]), _reader(args[1]))
    if isinstance(kind, type) and issubclass(kind, WireModel | Enum):
        return kind.from_json if issubclass(kind, WireModel) else kind
    return SIMPLE.get(kind) or _exactly(kind)


def _same(value: Any) -> Any:
    return value


def _optional(read: Reader) -> Reader:
    return lambda value: None if value is None else read(value)


def _list(read: Reader) -> Reader:
    def items(value: Any) -> Any:
        return [read(item) for item in _exactly(list)(value)]

    return items


def _dict(read_key: Reader, read: Reader) -> Reader:
    def items(value: Any) -> Any:
        return {read_key(key): read(item) for key, item in _exactly(dict)(value).items()}

    return items


@cache
def _exactly(kind: type) -> Reader:
    def check(value: Any) -> Any:
        if type(value) is not kind:  # True is no number
            raise ValueError(f"{type(value).__name__} instead of {kind.__name__}")
        return value

    return check


def _number(value: Any) -> float:
    return float(value) if type(value) is int else float(_exactly(float)(value))


def _uuid(value: Any) -> UUID:
    return UUID(_exactly(str)(value))


def _time(value: Any) -> datetime:
    time = datetime.fromisoformat(_exactly(str)(value))
    if time.tzinfo is None:
        raise ValueError("a time without a zone")
    return time


SIMPLE: Final[Mapping[Any, Reader]] = {Any: _same, UUID: _uuid, datetime: _time, float: _number}
