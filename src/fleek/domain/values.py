"""Data classes that are made in a quarter of the time.

`dataclasses` writes six methods for a frozen class and compiles each: for all classes of a service together
a tenth of its start. Here it writes `__init__` alone; the others work for any class. And nothing checks at run
time that a frozen value is not changed, which made values four times as slow: the type checker refuses it.
"""

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - the type checker knows its arguments
else:
    import dataclasses

    def dataclass(
        kind: type | None = None,
        /,
        *,
        frozen: bool = False,
        eq: bool = True,
        repr: bool = True,  # noqa: A002 - the library's name
        order: bool = False,
        **options: Any,
    ) -> Any:
        """Make a data class, see the library's. One with an order is the library's."""
        if order:
            return dataclasses.dataclass(kind, frozen=frozen, order=order, **options)

        def make(kind: type) -> type:
            """Return the data class."""
            own = vars(kind)
            made = dataclasses.dataclass(kind, eq=False, repr=False, **options)
            if repr and "__repr__" not in own:
                made.__repr__ = _show
            if eq and "__eq__" not in own:
                made.__eq__, hashed = _comparison(made)
                made.__hash__ = own.get("__hash__", hashed if frozen else None)
            return made

        return make if kind is None else make(kind)


def _comparison(kind: type) -> tuple[Callable[[Any, Any], Any], Callable[[Any], int]]:
    """Return `__eq__` and `__hash__`."""
    names = [field.name for field in fields(kind) if field.compare]
    take: Callable[[Any], Any] = attrgetter(*names) if names else lambda _: ()

    def equals(one: Any, other: Any) -> Any:
        """Whether both are of one class, with equal fields."""
        if one.__class__ is not other.__class__:
            return NotImplemented
        return take(one) == take(other)

    def hashed(one: Any) -> int:
        """Return the same for equal values."""
        return hash(take(one))

    return equals, hashed


def _show(value: Any) -> str:
    shown = (f"{one.name}={getattr(value, one.name)!r}" for one in fields(value) if one.repr)
    return f"{type(value).__qualname__}({', '.join(shown)})"
