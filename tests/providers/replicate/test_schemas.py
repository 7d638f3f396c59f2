"""Schemas of parameters: normalized, cached, and fetched once."""

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


def requests(emulator: Emulator) -> int:
    """Return the number of requests that the emulator has received."""
    return len(emulator.ledger.rows("request"))


async def test_the_schema_lists_a_model_s_parameters(provider: ReplicateProvider) -> None:
    """Without the prompt; unknown parameters are refused."""
    schema = await provider.schema(FLUX)

    assert schema is not None
    assert "prompt" not in schema["properties"]
    assert "prompt" not in schema["required"]
    assert jsonschema_rs.is_valid(dict(schema), {"num_outputs": 4})
    assert not jsonschema_rs.is_valid(dict(schema), {"num_outputs": 5})
    assert not jsonschema_rs.is_valid(dict(schema), {"nonsense": 1})


async def test_a_version_has_its_own_schema(provider: ReplicateProvider) -> None:
    """Versions may differ in their parameters."""
    schema = await provider.schema(ModelName(f"any/body:{VERSION}"))

    assert schema is not None
    assert list(schema["properties"]) == ["seed"]


@pytest.mark.parametrize("name", [VERSION, "my/own:deployment"])
async def test_some_names_have_no_schema(
    provider: ReplicateProvider, emulator: Emulator, name: str
) -> None:
    """Replicate checks their parameters itself, at the start."""
    assert await provider.schema(ModelName(name)) is None
    assert requests(emulator) == 0


async def test_an_unknown_model_is_remembered(
    provider: ReplicateProvider, emulator: Emulator
) -> None:
    """It is not requested each time."""
    emulator.replan(any_model=False)

    for _ in range(3):
        with pytest.raises(NotFound):
            await provider.schema(ModelName("no/body"))

    assert requests(emulator) == 1


async def test_concurrent_callers_share_a_request(
    provider: ReplicateProvider, emulator: Emulator
) -> None:
    """A thousand submissions of one model cause one request."""
    schemas = await asyncio.gather(*(provider.schema(FLUX) for _ in range(50)))

    assert requests(emulator) == 1
    assert all(one is schemas[0] for one in schemas)


async def test_a_cancelled_caller_does_not_cancel_the_shared_request(
    provider: ReplicateProvider, emulator: Emulator
) -> None:
    """Others wait for it."""
    emulator.replan(rates={"model_slow": 1}, arguments={"model_slow": "0.1"})
    first = asyncio.create_task(provider.schema(FLUX))
    second = asyncio.create_task(provider.schema(FLUX))
    await asyncio.sleep(0)

    first.cancel()

    assert await second is not None
    assert requests(emulator) == 1


async def test_a_schema_is_fetched_again_after_a_while(
    factory: Any, emulator: Emulator, ticks: Any
) -> None:
    """An unchanged schema is the same object, so that its compiled form stays valid."""
    provider = factory.open(clock=ticks)
    first = await provider.schema(FLUX)
    ticks.seconds += FRESH_SECONDS

    second = await provider.schema(FLUX)

    assert second is first
    assert requests(emulator) == 2


async def test_a_failed_fetch_is_not_repeated_at_once(
    factory: Any, emulator: Emulator, ticks: Any
) -> None:
    """Jobs are accepted without a schema; an unreachable API must not delay each of them."""
    emulator.replan(rates={"model_5xx": 1})
    provider = factory.open(clock=ticks)

    for seconds in (0, FAILED_SECONDS / 2, FAILED_SECONDS):
        ticks.seconds = seconds
        with pytest.raises(ProviderUnavailable):
            await provider.schema(FLUX)

    assert requests(emulator) == 2


async def test_an_old_schema_is_used_if_the_fetch_fails(
    factory: Any, emulator: Emulator, ticks: Any
) -> None:
    """Parameters seldom change."""
    provider = factory.open(clock=ticks)
    first = await provider.schema(FLUX)
    emulator.replan(rates={"model_5xx": 1})
    ticks.seconds += FRESH_SECONDS

    assert await provider.schema(FLUX) is first


async def test_the_cache_is_bounded(provider: ReplicateProvider) -> None:
    """Names are chosen by callers."""
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
def test_an_unusable_schema_is_none(version: Any) -> None:
    """The provider checks the parameters; the job is not refused."""
    assert read_schema(version) is None


def _document(properties: dict[str, Any], **schemas: Any) -> dict[str, Any]:
    takes = {"type": "object", "properties": properties, "required": ["prompt", "a", 7]}
    return {"openapi_schema": {"components": {"schemas": {"Input": takes, **schemas}}}}


def test_references_and_openapi_keywords_are_resolved() -> None:
    """OpenAPI 3.0 differs from JSON schema."""
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
def test_an_unusual_schema_is_normalized(takes: dict[str, Any]) -> None:
    """It allows any value of `a`, and can be shown and compiled."""
    document = {"components": {"schemas": {"Input": takes, "nothing": {}, "text": "text"}}}

    schema = read_schema({"openapi_schema": document})

    assert schema is not None
    json.dumps(schema, allow_nan=False).encode()
    compiled = compile_schema(schema)
    assert compiled is not None
    assert compiled.errors({"a": 1.0}) == []


@given(takes=ANYTHING, others=st.dictionaries(st.sampled_from(["a", "Input"]), ANYTHING))
@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_any_json_can_be_a_version(takes: Any, others: dict[str, Any]) -> None:
    """Models are published by untrusted users."""
    for version in (
        takes,
        {"openapi_schema": takes},
        {"openapi_schema": {"components": takes}},
        {"openapi_schema": {"components": {"schemas": {**others, "Input": takes}}}},
        {"openapi_schema": {"components": {"schemas": {"Input": {"properties": {"a": takes}}}}}},
    ):
        schema = read_schema(version)

        assert schema is None or compile_schema(schema) is not None


def test_a_recursive_schema_is_cut() -> None:
    """Anything is allowed below a certain depth."""
    loop = {"type": "array", "items": {"$ref": "#/components/schemas/loop"}}

    schema = read_schema(_document({"a": {"$ref": "#/components/schemas/loop"}}, loop=loop))

    assert schema is not None
    assert jsonschema_rs.is_valid(dict(schema), {"a": [[[]]]})
    assert not jsonschema_rs.is_valid(dict(schema), {"a": 1})
