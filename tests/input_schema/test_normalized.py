"""Untrusted schemas give a small result or None, and no address is opened."""

import json
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleek.input_schema import compile_schema, normalize
from fleek.input_schema.compiled import MAX_CHOICES, MAX_DETAIL, MAX_ERRORS, MAX_WORK
from fleek.input_schema.normalized import MAX_CHARS, MAX_NODES, MAX_OPTIONS, MAX_PATTERN
from untrusted_json import ANYTHING, no_calls


def size(value: Any) -> int:
    """Return the number of values, nested ones included."""
    if isinstance(value, dict):
        return 1 + sum(map(size, value.values()))
    return 1 + sum(map(size, value)) if isinstance(value, list) else 1


@given(schema=ANYTHING, definitions=ANYTHING, parameters=st.dictionaries(st.text(), st.integers()))
@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_any_json_is_handled(schema: Any, definitions: Any, parameters: dict[str, Any]) -> None:
    """The result is self-contained, serializable, and unchanged when normalized again."""
    for exact in (False, True):
        copy = normalize(schema, definitions, exact=exact)

        if copy is not None:
            assert size(copy) <= 3 * MAX_NODES
            assert normalize(json.loads(json.dumps(copy, allow_nan=False).encode())) == copy
            compiled = compile_schema({"properties": {"a": copy}})
            assert compiled is None or compiled.errors({"a": 1.0, **parameters}) is not None


def fan_out(depth: int, width: int) -> dict[str, Any]:
    """Return definitions that expand to width to the power of depth parts."""
    names = [f"n{number}" for number in range(depth)]
    following = {
        name: {"anyOf": [{"$ref": f"#/components/schemas/{after}"}] * width}
        for name, after in pairwise(names)
    }
    return {**following, names[-1]: {"type": "integer"}}


def nested(depth: int) -> Any:
    """Return a schema that is nested this deep."""
    schema: Any = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


BOMBS: Final[dict[str, tuple[Any, Any]]] = {
    "fan-out": ({"$ref": "#/components/schemas/n0"}, fan_out(8, 8)),
    "depth": (nested(500), {}),
    "options": ({"enum": list(range(100_000))}, {}),
    "alternatives": ({"anyOf": [{}] * (MAX_OPTIONS + 1)}, {}),
    "properties": ({"properties": {str(number): {} for number in range(301)}}, {}),
    "pattern": ({"pattern": "a" * (MAX_PATTERN + 1)}, {}),
    "description": ({"description": "a" * (MAX_CHARS + 1)}, {}),
    "keywords": ({f"k{number}": 1 for number in range(65)}, {}),
    "patterns": ({"allOf": [{"pattern": "a"}] * 101}, {}),
    "types": ({"type": ["string"] * 100}, {}),
    "repeated text": (
        {"allOf": [{"$ref": "#/components/schemas/a"}] * 300},
        {"a": {"title": "a" * 1000}},
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_schema_beyond_the_budget_is_ignored(name: str) -> None:
    """The size is counted before the schema is expanded."""
    schema, definitions = BOMBS[name]

    assert normalize(schema, definitions) is None


SCHEMAS: Final[tuple[dict[str, Any], ...]] = (  # PLACE becomes an address or a file
    {"$schema": "PLACE", "type": "object"},
    {"properties": {"a": {"$schema": "PLACE", "type": "integer"}}},
    {"properties": {"a": {"$ref": "PLACE"}}},
    {"properties": {"a": {"allOf": [{"$ref": "PLACE#/definitions/x"}]}}},
    {"$id": "PLACE", "properties": {"a": {"$ref": "b.json"}}},
    {"properties": {"a": {"$dynamicRef": "PLACE#x"}}},
    {"properties": {"a": {"$id": "PLACE", "$anchor": "x", "$ref": "#x"}}},
    {"properties": {"a": {"enum": [1], "$vocabulary": {"PLACE": True}}}},
)


@contextmanager
def listening() -> Generator[tuple[str, Callable[[], bool]]]:
    """Yield an address on loopback, and a function that tells if a connection was opened.

    A real listener notices libraries that are not written in Python, too.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)

        def called() -> bool:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                return False
            return True

        yield f"http://127.0.0.1:{listener.getsockname()[1]}/meta.json", called


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_addresses_in_a_schema_are_not_opened(number: int, tmp_path: Path) -> None:
    """Neither network addresses nor files, even if the file would refuse all parameters."""
    (tmp_path / "nothing.json").write_text('{"not": {}}')
    normalize({})  # load what is loaded lazily

    for place in ("ADDRESS", (tmp_path / "nothing.json").as_uri()):
        with listening() as (address, called), no_calls() as calls:
            written = json.dumps(SCHEMAS[number]).replace("PLACE", place)
            compiled = compile_schema(json.loads(written.replace("ADDRESS", address)))
            assert compiled is not None
            assert compiled.errors({"a": 1}) == []
            assert calls == []
            assert not called()


def test_the_library_alone_opens_addresses() -> None:
    """The test above would prove nothing otherwise."""
    options = jsonschema_rs.HttpOptions(timeout=0.1)

    with listening() as (address, called):
        with suppress(ValueError, jsonschema_rs.ReferencingError):
            jsonschema_rs.validator_for({"$ref": address}, http_options=options)
        assert called()


def test_a_recursive_schema_allows_anything_in_its_recursion() -> None:
    """An exact copy of it is not possible."""
    definitions = {"a": {"type": "array", "items": {"$ref": "#/components/schemas/a"}}}

    copy = normalize({"$ref": "#/components/schemas/a"}, definitions)

    assert copy == {"type": "array", "items": {}}
    assert normalize({"$ref": "#/components/schemas/a"}, definitions, exact=True) is None


@pytest.mark.parametrize("keyword", ["not", "if", "patternProperties", "prefixItems"])
def test_an_exact_copy_refuses_unsupported_keywords(keyword: str) -> None:
    """A file could be described there."""
    schema = {keyword: {"format": "uri"}}

    assert normalize(schema) == {}
    assert normalize(schema, exact=True) is None


@pytest.mark.parametrize(
    ("schema", "parameters", "codes"),
    [
        ({"properties": {"a": True}}, {"a": 1.0}, []),
        ({"properties": {"a": False}}, {"a": 1}, ["not_a_choice"]),
        ({"properties": {"a": {"type": "integer", "nullable": True}}}, {"a": 1.0}, ["wrong_type"]),
        ({"properties": {"a": {"type": "integer", "nullable": True}}}, {"a": None}, []),
        ({"properties": {"a": {"type": ["integer", "null"]}}}, {"a": 2.0}, ["wrong_type"]),
        ({"properties": {"a": {"type": ["integer", "number"]}}}, {"a": 2.0}, []),
        ({"properties": {"a": {"oneOf": [{}, {}]}}}, {"a": 2.0}, []),
        ({"required": ["b", 7, "b"]}, {}, ["missing"]),
        ({"additionalProperties": {"type": "integer"}}, {"a": "b"}, []),
        (
            {"properties": {"a": {"required": ['"b'], "properties": {}}}},
            {"a": {}},
            ["missing"],
        ),
    ],
)
def test_supported_keywords_are_checked(
    schema: dict[str, Any], parameters: dict[str, Any], codes: list[str]
) -> None:
    """The provider checks the rest."""
    compiled = compile_schema(schema)

    assert compiled is not None
    errors = compiled.errors(parameters)
    assert errors is not None
    assert [error.code for error in errors] == codes


def test_a_backtracking_pattern_is_checked_in_linear_time() -> None:
    """With 2^10,000 steps the test would not end."""
    compiled = compile_schema({"properties": {"a": {"pattern": "^(a+)+$"}}})

    assert compiled is not None
    assert [error.code for error in compiled.errors({"a": "a" * 10_000 + "b"}) or []] == [
        "wrong_form"
    ]


@pytest.mark.parametrize("pattern", ["(a)\\1", "(?=a)b", "(?:(?:a{99}){99}){99}", "["])
def test_unsupported_patterns_are_not_checked(pattern: str) -> None:
    """The provider checks the parameters instead."""
    assert compile_schema({"properties": {"a": {"pattern": pattern}}}) is None


def test_an_expensive_check_is_skipped() -> None:
    """The cost is counted in advance: many values, each against many alternatives."""
    schema = {"properties": {"a": {"items": {"anyOf": [{"const": n} for n in range(400)]}}}}
    compiled = compile_schema(schema)

    assert compiled is not None
    assert compiled.errors({"a": [399] * 100}) == []
    assert compiled.errors({"a": [399] * (MAX_WORK // 800 + 1)}) is None


def test_error_details_are_short_and_printable() -> None:
    """The schema has long enumerations, long words and control characters."""
    long = {"enum": [f"\x1b[2J\r\n{number}" + "x" * 100 for number in range(1000)]}
    many = {"enum": [str(number) for number in range(1000)]}
    compiled = compile_schema(
        {"properties": {"a": long, "b": many}, "additionalProperties": False}
    )

    assert compiled is not None
    errors = compiled.errors({"a": 1, "b": 1, **{f"p{n}": 1 for n in range(100)}})
    assert errors is not None
    assert len(errors) == MAX_ERRORS
    assert all(len(error.detail) <= MAX_DETAIL and error.detail.isprintable() for error in errors)
    assert errors[1].detail.count(",") == MAX_CHOICES
