"""Schemas of parameters: as published, made plain, and asked for no more often than needed."""

import asyncio
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleek.domain.errors import NotFound, ProviderUnavailable
from fleek.domain.job import ModelName
from fleek.emulator.server import Emulator
from fleek.input_schema import compile_schema
from fleek.providers.replicate.provider import ReplicateProvider
from fleek.providers.replicate.schemas import FAILED_SECONDS, FRESH_SECONDS, KEPT, read_schema
from untrusted_json import ANYTHING

FLUX = ModelName("black-forest-labs/flux-schnell")
VERSION = "0123456789abcdef" * 4


def asked(emulator: Emulator) -> int:
    """Return how many requests have come."""
    return len(emulator.ledger.rows("request"))


async def test_it_says_what_a_model_takes(provider: ReplicateProvider) -> None:
    """The prompt is not among the parameters, and nothing else may be."""
    schema = await provider.schema(FLUX)

    assert schema is not None
    assert "prompt" not in schema["properties"]
    assert "prompt" not in schema["required"]
    assert jsonschema_rs.is_valid(dict(schema), {"num_outputs": 4})
    assert not jsonschema_rs.is_valid(dict(schema), {"num_outputs": 5})
    assert not jsonschema_rs.is_valid(dict(schema), {"nonsense": 1})


async def test_of_a_version_its_own_is_read(provider: ReplicateProvider) -> None:
    """A later version may take other parameters."""
    schema = await provider.schema(ModelName(f"any/body:{VERSION}"))

    assert schema is not None
    assert list(schema["properties"]) == ["seed"]


@pytest.mark.parametrize("name", [VERSION, "my/own:deployment"])
async def test_some_names_do_not_tell_where_to_look(
    provider: ReplicateProvider, emulator: Emulator, name: str
) -> None:
    """Replicate checks these itself, at start."""
    assert await provider.schema(ModelName(name)) is None
    assert asked(emulator) == 0


async def test_an_unknown_model_is_said_to_be_one(
    provider: ReplicateProvider, emulator: Emulator
) -> None:
    """And is not asked for each time."""
    emulator.replan(any_model=False)

    for _ in range(3):
        with pytest.raises(NotFound):
            await provider.schema(ModelName("no/body"))

    assert asked(emulator) == 1


async def test_many_callers_ask_once(provider: ReplicateProvider, emulator: Emulator) -> None:
    """A thousand submissions of one model cost one request."""
    schemas = await asyncio.gather(*(provider.schema(FLUX) for _ in range(50)))

    assert asked(emulator) == 1
    assert all(one is schemas[0] for one in schemas)


async def test_a_caller_that_leaves_does_not_spoil_it_for_the_others(
    provider: ReplicateProvider, emulator: Emulator
) -> None:
    """The request belongs to all of them."""
    emulator.replan(rates={"model_slow": 1}, arguments={"model_slow": "0.1"})
    first = asyncio.create_task(provider.schema(FLUX))
    second = asyncio.create_task(provider.schema(FLUX))
    await asyncio.sleep(0)

    first.cancel()

    assert await second is not None
    assert asked(emulator) == 1


async def test_it_is_asked_for_again_after_a_while(
    shop: Any, emulator: Emulator, ticks: Any
) -> None:
    """The same object is given if nothing has changed: what was compiled from it still counts."""
    provider = shop.open(clock=ticks)
    first = await provider.schema(FLUX)
    ticks.seconds += FRESH_SECONDS

    second = await provider.schema(FLUX)

    assert second is first
    assert asked(emulator) == 2


async def test_out_of_reach_is_said_and_not_tried_by_everybody(
    shop: Any, emulator: Emulator, ticks: Any
) -> None:
    """A job is accepted without; a dead API must not make each one wait."""
    emulator.replan(rates={"model_5xx": 1})
    provider = shop.open(clock=ticks)

    for seconds in (0, FAILED_SECONDS / 2, FAILED_SECONDS):
        ticks.seconds = seconds
        with pytest.raises(ProviderUnavailable):
            await provider.schema(FLUX)

    assert asked(emulator) == 2


async def test_an_old_schema_is_better_than_none(
    shop: Any, emulator: Emulator, ticks: Any
) -> None:
    """Models seldom change what they take."""
    provider = shop.open(clock=ticks)
    first = await provider.schema(FLUX)
    emulator.replan(rates={"model_5xx": 1})
    ticks.seconds += FRESH_SECONDS

    assert await provider.schema(FLUX) is first


async def test_the_memory_is_bounded(provider: ReplicateProvider) -> None:
    """Names come from callers."""
    for number in range(KEPT + 10):
        await provider.schema(ModelName(f"any/m{number}"))

    assert len(provider.schemas._kept) == KEPT


@pytest.mark.parametrize(
    "version",
    [
        None,
        [],
        {},
        {"openapi_schema": None},
        {"openapi_schema": {"components": {"schemas": {}}}},
        {"openapi_schema": {"components": {"schemas": {"Input": []}}}},
        {"openapi_schema": {"components": {"schemas": {"Input": {"type": "object"}}}}},
        {
            "openapi_schema": {
                "components": {"schemas": {"Input": {"properties": {"a": {"type": 7}}}}}
            }
        },
        {"openapi_schema": {"components": {"schemas": {"Input": {"$ref": "a"}, "a": {}}}}},
        {
            "openapi_schema": {
                "components": {"schemas": {"Input": {"$ref": "#/components/schemas/a"}, "a": "b"}}
            }
        },
        {"openapi_schema": {"components": {"schemas": {"Input": {"nullable": True}}}}},
        {
            "openapi_schema": {
                "components": {"schemas": {"Input": {"properties": {"a": {"pattern": "("}}}}}
            }
        },
    ],
)
def test_what_is_no_schema_is_none(version: Any) -> None:
    """The host checks then; a job is not refused for it."""
    assert read_schema(version) is None


def _document(properties: dict[str, Any], **schemas: Any) -> dict[str, Any]:
    takes = {"type": "object", "properties": properties, "required": ["prompt", "a", 7]}
    return {"openapi_schema": {"components": {"schemas": {"Input": takes, **schemas}}}}


def test_references_and_old_spellings_are_put_in_place() -> None:
    """OpenAPI 3.0 says some things otherwise than JSON schema does."""
    size = {"enum": ["s", "m"], "type": "string"}
    document = _document(
        {
            "prompt": {"type": "string"},
            "a": {"allOf": [{"$ref": "#/components/schemas/size"}], "default": "m"},
            "b": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
            "c": {"type": "number", "maximum": 9, "exclusiveMaximum": False},
            "d": {"type": "string", "nullable": True},
        },
        size=size,
    )

    schema = read_schema(document)

    assert schema is not None
    assert schema["required"] == ["a"]
    assert schema["properties"] == {
        "a": {**size, "default": "m"},
        "b": {"type": "number", "exclusiveMinimum": 0},
        "c": {"type": "number", "maximum": 9},
        "d": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    }


@pytest.mark.parametrize(
    "takes",
    [
        {"properties": {"a": {}}, "$ref": "#/components/schemas/nothing"},
        {"properties": {"a": {}}, "$ref": "#/components/schemas/text"},
        {"properties": {"a": {}}, "nullable": True},
        {"properties": {"a": True}},
        {"properties": {"a": {"$ref": "#/components/schemas/Input"}}},
        {"properties": {"a": {"$ref": ["a"]}, "b": {"$id": 7, "$anchor": {}}}},
        {"properties": {"a": {"default": "\ud800", "title": "\0"}}},
        {"properties": {"a": {}}, "$schema": "http://127.0.0.1:9/none.json"},
    ],
    ids=range(8),
)
def test_an_odd_schema_is_read(takes: dict[str, Any]) -> None:
    """What it says of `a` is that anything goes; it can be shown and compiled."""
    document = {"components": {"schemas": {"Input": takes, "nothing": {}, "text": "text"}}}

    schema = read_schema({"openapi_schema": document})

    assert schema is not None
    json.dumps(schema, allow_nan=False).encode()
    compiled = compile_schema(schema)
    assert compiled is not None
    assert compiled.errors({"a": 1.0}) == []


@given(takes=ANYTHING, others=st.dictionaries(st.sampled_from(["a", "Input"]), ANYTHING))
def test_any_json_can_be_read_for_a_version(takes: Any, others: dict[str, Any]) -> None:
    """The API may be an impostor's, and models are published by strangers."""
    for version in (
        takes,
        {"openapi_schema": takes},
        {"openapi_schema": {"components": takes}},
        {"openapi_schema": {"components": {"schemas": {**others, "Input": takes}}}},
        {"openapi_schema": {"components": {"schemas": {"Input": {"properties": {"a": takes}}}}}},
    ):
        schema = read_schema(version)

        assert schema is None or compile_schema(schema) is not None


def test_a_schema_that_refers_to_itself_ends() -> None:
    """Anything goes below a certain depth."""
    loop = {"type": "array", "items": {"$ref": "#/components/schemas/loop"}}

    schema = read_schema(_document({"a": {"$ref": "#/components/schemas/loop"}}, loop=loop))

    assert schema is not None
    assert jsonschema_rs.is_valid(dict(schema), {"a": [[[]]]})
    assert not jsonschema_rs.is_valid(dict(schema), {"a": 1})
