"""An adapter that does not fit its port is refused, and the wrong members are named."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest

from fakes import FakeProvider, RecallingProvider
from fleek.dispatch.base import Dispatcher, Measured
from fleek.providers.base import CAPABILITIES, Budget, Provider
from fleek.registry import misfits
from fleek.storage.base import Storage


class Smallest:
    """A provider with the required members only."""

    reconcile_by: Any = "none"
    default_model: Any = "acme/model"

    async def start(self, job: Any, attempt: Any) -> Any:
        """Do nothing."""

    async def poll(self, ids: Sequence[Any]) -> Mapping[Any, Any]:
        """Return a mapping of the ids."""
        return dict.fromkeys(ids)

    async def cancel(self, prediction_id: Any) -> Any:
        """Do nothing."""

    async def read(self, _job: Any, _output: Any) -> AsyncIterator[bytes]:
        """Yield no content."""
        yield b""

    async def schema(self, model: Any) -> Any:
        """Do nothing."""


def test_required_members_are_enough() -> None:
    """A provider without any capability needs no stubs."""
    assert misfits(Smallest(), Provider, CAPABILITIES) == []


@pytest.mark.parametrize("fake", [FakeProvider(), RecallingProvider()], ids=["plain", "askable"])
def test_well_formed_capabilities_are_accepted(fake: FakeProvider) -> None:
    """The fakes of other tests are valid providers, too."""
    assert misfits(fake, Provider, CAPABILITIES) == []


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("reconcile_by", "reconcile_by is missing"),
        ("default_model", "default_model is missing"),
        ("start", "start() is missing"),
        ("poll", "poll() is missing"),
        ("cancel", "cancel() is missing"),
        ("read", "read() is missing"),
        ("schema", "schema() is missing"),
    ],
)
def test_a_missing_required_member_is_named(name: str, phrase: str) -> None:
    """The author knows what to add."""
    members = {key: value for key, value in vars(Smallest).items() if key != name}

    found = misfits(type("Provider", (), members)(), Provider, CAPABILITIES)

    assert found == [phrase]


class Odd(Smallest):
    """Members of wrong shapes, to replace correct ones."""

    def plain(self, *_: Any, **__: Any) -> None:
        """Be a plain function."""

    async def coroutine(self, *_: Any, **__: Any) -> None:
        """Be a coroutine, where a stream or a plain function is required."""

    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[None]:
        """Be a stream, where a coroutine is required."""
        yield

    async def nothing(self) -> None:
        """Accept no argument."""

    async def unnamed(self, job: Any, attempt: Any, moment: datetime) -> None:
        """Have another name for a parameter that is passed by name."""

    async def more(self, job: Any, attempt: Any, required: Any) -> None:
        """Require one more argument."""

    async def defaulted(self, job: Any, attempt: Any, extra: Any = None) -> None:
        """Have one more parameter, with a default."""


ODD = vars(Odd)


COROUTINE = "must be 'async def' without 'yield'"
RECONCILE_BY = "reconcile_by must be one of 'repeat', 'find', 'none'"
SHAPES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "another word": ({"reconcile_by": "retry"}, [RECONCILE_BY]),
    "no word": ({"reconcile_by": None}, [RECONCILE_BY]),
    "no name": ({"default_model": None}, ["default_model must be of type str"]),
    "not async": ({"start": ODD["plain"]}, [f"start() {COROUTINE}"]),
    "a stream": ({"start": ODD["stream"]}, [f"start() {COROUTINE}"]),
    "a parameter too many": ({"start": ODD["more"]}, ["start() must take (job, attempt)"]),
    "a parameter with a default": ({"start": ODD["defaulted"]}, []),
    "no method": ({"start": "now"}, ["start must be a method"]),
    "no stream": ({"read": ODD["coroutine"]}, ["read() must be 'async def' with 'yield'"]),
    "returns a stream": ({"read": ODD["plain"]}, []),
    "a parameter too few": ({"cancel": ODD["nothing"]}, ["cancel() must take (prediction_id)"]),
    "a number as budget": ({"budget": 5}, ["budget must be of type Budget"]),
    "a budget": ({"budget": Budget()}, []),
    "another name": ({"find": ODD["unnamed"]}, ["find() must take (job, attempt, *, now)"]),
    "a list that is not async": ({"models": ODD["plain"]}, [f"models() {COROUTINE}"]),
    "no body": ({"callback": ODD["nothing"]}, ["callback() must take (headers, body)"]),
    "async where it is not": ({"overlong": ODD["coroutine"]}, ["overlong() must be 'def'"]),
    "half a capability": ({"time": None}, ["ask_time() is missing"]),
    "a text as time": (
        {"time": "noon", "ask_time": ODD["nothing"]},
        ["time must be of type datetime.datetime | None"],
    ),
}
"""Members that replace correct ones, and the expected messages."""


@pytest.mark.parametrize("shape", SHAPES)
def test_a_member_of_another_shape_is_named(shape: str) -> None:
    """Otherwise the first job would raise."""
    member, phrases = SHAPES[shape]
    provider = type("Provider", (Smallest,), member)()

    assert misfits(provider, Provider, CAPABILITIES) == phrases


@pytest.mark.parametrize("port", [Dispatcher, Storage])
def test_the_other_ports_are_checked_alike(port: type) -> None:
    """A plugin may be a storage or a dispatcher."""
    found = misfits(object(), port, [Measured])

    assert "check() is missing" in found
    assert all(phrase.endswith("() is missing") for phrase in found)
