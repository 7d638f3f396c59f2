"""Untrusted JSON, and a check that a library makes no calls because of it."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from hypothesis import strategies as st

KEYWORDS: Final = (
    *("type", "enum", "const", "properties", "required", "additionalProperties", "items"),
    *("anyOf", "oneOf", "allOf", "not", "if", "$ref", "$id", "$schema", "$anchor", "$defs"),
    *("$dynamicRef", "$dynamicAnchor", "nullable", "minimum", "exclusiveMinimum", "multipleOf"),
    *("minLength", "maxItems", "uniqueItems", "pattern", "format", "default", "x-order", "Input"),
)
WORDS: Final = (
    *("string", "integer", "null", "uri", "^a+$", "(a+)+$", "[", "\ud800", "\0"),
    *("#/components/schemas/Input", "#/components/schemas/a", "#/$defs/a", "#", "#a"),
    *("http://127.0.0.1:9/x.json", "file:///etc/passwd", "json-schema:///", "urn:x"),
)
NUMBERS: Final = st.one_of(
    st.integers(), st.floats(), st.sampled_from([10**400, 2**64, -0.0, 1e308, 5e-324])
)
SCALARS: Final = st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(WORDS), st.text())
ANYTHING: Final = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KEYWORDS), st.text()), inner, max_size=6),
    ),
    max_leaves=40,
)


@contextmanager
def no_calls() -> Generator[list[str]]:
    """Record every event by which a library could access files or the network."""
    watched = ("socket.", "urllib.", "http.", "open", "subprocess.", "os.system")
    seen: list[str] = []
    active = True

    def note(event: str, args: tuple[Any, ...]) -> None:
        if active and event.startswith(watched):
            seen.append(f"{event} {args!r}"[:200])

    sys.addaudithook(note)
    try:
        yield seen
    finally:
        active = False
