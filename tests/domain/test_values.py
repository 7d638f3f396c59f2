"""Data classes that are made quickly: they do what the library's do."""

import dataclasses
import pickle
import re
from dataclasses import field
from pathlib import Path
from typing import Any

import pytest

import fleek
from fleek.domain.values import dataclass


def both(**options: Any) -> list[Any]:
    """Return a class by the library and one of ours, with the same fields."""

    def made(decorate: Any) -> Any:
        @decorate(**options)
        class Point:
            """Where something is."""

            x: int
            y: int = 0
            name: str = field(default="", compare=False)
            secret: str = field(default="s", repr=False)

        return Point

    return [made(dataclasses.dataclass), made(dataclass)]


OPTIONS = [
    {"frozen": True, "slots": True},
    {"frozen": True, "slots": True, "kw_only": True},
    {"slots": True},
    {"slots": True, "eq": False},
    {},
    {"order": True, "slots": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_compare_and_show_themselves_as_the_library_s(options: dict[str, Any]) -> None:
    """Fields that are left out of a comparison, or of what is shown, stay out."""
    outcomes = []
    for kind in both(**options):
        one, same, other = kind(x=1), kind(x=1, name="n"), kind(x=2)
        hashed = None if kind.__hash__ is None else hash(one) == hash(same)
        slots = getattr(kind, "__slots__", None)
        outcomes.append(
            (one == same, one == other, one == (1, 0, "s"), hashed, repr(other), slots)
        )
        assert dataclasses.replace(one, y=3) == kind(x=1, y=3) or not options.get("eq", True)
        assert dataclasses.asdict(other)["x"] == 2
        assert [each.name for each in dataclasses.fields(kind)] == ["x", "y", "name", "secret"]
        assert kind.__match_args__ == (
            () if options.get("kw_only") else ("x", "y", "name", "secret")
        )

    assert outcomes[0] == outcomes[1]


@dataclass(frozen=True, slots=True)
class Alone:
    """A value with one field, and methods of its own."""

    x: int

    def __repr__(self) -> str:
        """Show it in its own way."""
        return f"<{self.x}>"


@dataclass(frozen=True, slots=True)
class Nothing:
    """A value without fields."""


def test_a_class_may_show_itself_in_its_own_way() -> None:
    """Its own method is kept; values of different classes are never equal."""
    assert repr(Alone(3)) == "<3>"
    assert {Alone(3), Alone(3), Alone(4)} == {Alone(3), Alone(4)}
    assert Nothing() == Nothing()
    assert Nothing() != Alone(3)  # type: ignore[comparison-overlap] # what is tested
    assert hash(Nothing()) == hash(Nothing())


def test_values_can_be_pickled() -> None:
    """Processes hand them over."""
    assert pickle.loads(pickle.dumps(Alone(3))) == Alone(3)  # noqa: S301 - our own


def test_the_service_makes_its_data_classes_this_way() -> None:
    """The library's take longer; the client, its tools and the emulator do not import the domain."""
    package = Path(fleek.__file__).parent
    others = {package / name for name in ("client", "emulator", "mcp_server")}
    using = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if others.isdisjoint(path.parents)
        and re.search(r"^from dataclasses import .*\bdataclass\b", path.read_text(), re.MULTILINE)
    }

    assert using == set()
