"""Frozen values made and copied by filling in their slots.

A job has more than fifty fields. `dataclasses.replace` asks for each by its name and hands it to `__init__` by
its name: longer than this, several times in each step of each job.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace as replace  # noqa: PLC0414 - the type checker knows its arguments
else:

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a copy with other values in some fields, of a frozen class with slots.

        Raises:
            TypeError: It has no such field.
        """
        take, places, fill = _parts(type(value))
        held = [*take(value)]
        for name, one in changes.items():
            if name not in places:
                raise TypeError(f"{type(value).__name__} has no field {name}")
            held[places[name]] = one
        return fill(held)


def filler(kind: type, names: Sequence[str]) -> Callable[[Sequence[Any]], Any]:
    """Return what makes a value of what its fields hold, given in the order of these names."""
    assert not hasattr(kind, "__post_init__")  # nobody would call it
    setters = [getattr(kind, name).__set__ for name in names]
    new = object.__new__

    def fill(held: Sequence[Any]) -> Any:
        value: Any = new(kind)
        for set_field, one in zip(setters, held, strict=True):
            set_field(value, one)
        return value

    return fill


@cache
def _parts(
    kind: type,
) -> tuple[Callable[[Any], Sequence[Any]], Mapping[str, int], Callable[[Sequence[Any]], Any]]:
    names = tuple(field.name for field in fields(kind))
    take: Callable[[Any], Any] = attrgetter(*names)
    if len(names) == 1:  # of which it would return no tuple
        take = lambda value: (getattr(value, names[0]),)  # noqa: E731 - the other form of the same
    return take, {name: place for place, name in enumerate(names)}, filler(kind, names)
