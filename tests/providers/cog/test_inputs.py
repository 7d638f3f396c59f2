"""The inputs of a model, and values that must never reach the server."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from jsonschema_rs import Draft202012Validator

from fleek.domain.errors import ProviderRejected, ProviderUnavailable
from fleek.providers.cog.inputs import MAX_FILE_CHARS, Contract, contract, validate_inputs
from untrusted_json import ANYTHING

PNG = "data:image/png;base64,iVBORw0KGgo="


def a_contract(**properties: Any) -> Contract:
    """Return the contract of a model with these inputs."""
    found = contract(document(**properties))
    assert found is not None
    return found


def document(**properties: Any) -> dict[str, Any]:
    """Return a server's description of a model with these inputs."""
    given = {"type": "object", "properties": properties, "required": list(properties)}
    named = {"color": {"type": "string", "enum": ["red", "blue"]}}
    return {"components": {"schemas": {"Input": given, **named, "Output": {}}}}


async def public(_host: str, _port: int) -> Sequence[str]:
    """Resolve to a host on the internet."""
    return ["93.184.215.14"]


FILE = {"type": "string", "format": "uri"}
COLOR = {"allOf": [{"$ref": "#/components/schemas/color"}], "default": "red"}


def test_references_are_resolved_and_the_prompt_is_removed() -> None:
    """The engine checks a job's parameters with it; the prompt is separate."""
    found = a_contract(prompt={"type": "string"}, color=COLOR)

    validator = Draft202012Validator(dict(found.parameters))
    assert found.prompted
    assert validator.is_valid({"color": "red"})
    assert not validator.is_valid({"color": "green"})
    assert not validator.is_valid({"color": "red", "prompt": "a cat"})


def test_a_model_may_have_no_prompt() -> None:
    """Then none is sent."""
    assert not a_contract(color=COLOR).prompted


def test_nullable_inputs_accept_null() -> None:
    """OpenAPI 3.0 has a keyword for it that JSON schema lacks."""
    found = a_contract(image={**FILE, "nullable": True}, nullable={"type": "integer"})

    validator = Draft202012Validator(dict(found.parameters))
    assert validator.is_valid({"image": None, "nullable": 1})
    assert validator.is_valid({"image": PNG, "nullable": 1})
    assert not validator.is_valid({"image": "cat.png", "nullable": 1})


@pytest.mark.parametrize(
    "description",
    [
        None,
        [],
        {},
        {"error": "OpenAPI schema not available"},
        {"components": {"schemas": {}}},
        {"components": {"schemas": {"Input": 7}}},
        {"components": {"schemas": {"Input": {"$ref": "#/components/schemas/Input"}}}},
        {"components": {"schemas": {"Input": {"properties": {"a": {"$ref": "#/other"}}}}}},
        {"components": {"schemas": {"Input": {"properties": [1]}}}},
    ],
    ids=range(9),
)
def test_a_server_without_a_description_has_no_contract(description: Any) -> None:
    """Inputs could not be checked, so no job is sent."""
    assert contract(description) is None


@given(takes=ANYTHING, value=ANYTHING)
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_any_json_can_be_a_description(takes: Any, value: Any) -> None:
    """Any input can be checked against it."""
    for document in (
        takes,
        {"components": takes},
        {"components": {"schemas": {"Input": takes, "a": takes}}},
        {"components": {"schemas": {"Input": {"properties": {"a": takes}}, "a": value}}},
    ):
        found = contract(document)

        if found is not None:
            with suppress(ProviderRejected, ProviderUnavailable):
                await validate_inputs(found, {"a": json.loads(json.dumps(value))}, "a cat", public)


def test_a_description_that_expands_too_much_is_refused() -> None:
    """Eight to the power of eight parts."""
    parts = {
        f"n{number}": {"anyOf": [{"$ref": f"#/components/schemas/n{number + 1}"}] * 8}
        for number in range(8)
    }

    takes = {"properties": {"a": {"$ref": "#/components/schemas/n0"}}}
    assert contract({"components": {"schemas": {"Input": takes, **parts, "n8": {}}}}) is None


async def test_an_input_too_expensive_to_check_is_refused() -> None:
    """It could contain a file."""
    known = a_contract(images={"type": "array", "items": {"anyOf": [{"const": 1}] * 400}})

    with pytest.raises(ProviderRejected, match="too large"):
        await validate_inputs(known, {"images": [2] * 1000}, "a cat", public)


async def test_unsafe_files_are_refused(subtests: pytest.Subtests) -> None:
    """Anywhere in the input."""
    cases: list[dict[str, Any]] = [
        FILE,
        {"type": "array", "items": FILE},
        {"type": "object", "additionalProperties": FILE},
        {"anyOf": [{"type": "integer"}, FILE]},
        {**FILE, "nullable": True},
    ]
    for schema in cases:
        for file in [
            "/etc/passwd",
            "cat.png",
            "",
            "file:///etc/passwd",
            "http://example.com/cat.png",
            "https://user@example.com/cat.png",
            "https://example.com:22/",
            "https://10.0.0.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://internal/",
            "https://example.com/#a",
            "https://example.com\\@127.0.0.1/",
            "data:image/svg+xml;base64,AAAA",
            "data:image/png,AAAA",
            "data:image/png;base64,****",
            PNG + "A" * MAX_FILE_CHARS,
        ]:
            with subtests.test(schema=str(schema)[:40], file=str(file)[:40]):
                known = a_contract(image=schema)
                value = {"array": [PNG, file], "object": {"a": file}}.get(
                    schema.get("type", ""), file
                )

                with pytest.raises(ProviderRejected, match=r"^image: "):
                    await validate_inputs(known, {"image": value}, "a cat", public)


async def test_safe_files_are_accepted() -> None:
    """Other strings are not checked as files."""
    known = a_contract(
        image=FILE,
        more={"type": "array", "items": FILE},
        words={"type": "object", "properties": {"path": {"type": "string"}, "file": FILE}},
        prompt={"type": "string"},
        n={"type": "integer"},
    )
    given = {
        "image": "https://example.com/cat.png",
        "more": [PNG],
        "words": {"path": "/etc/passwd", "file": PNG, "other": "x"},
        "n": 3,
    }

    await validate_inputs(known, given, "/etc/passwd", public)


async def test_a_prompt_that_is_a_file_is_checked() -> None:
    """Some model might open its prompt as a file."""
    with pytest.raises(ProviderRejected, match=r"^prompt: "):
        await validate_inputs(a_contract(prompt=FILE), {}, "/etc/passwd", public)


async def test_a_host_with_a_private_address_is_refused() -> None:
    """Its name looks public."""

    async def mixed(_host: str, _port: int) -> Sequence[str]:
        return ["93.184.215.14", "10.0.0.1"]

    with pytest.raises(ProviderRejected, match="not public"):
        await validate_inputs(
            a_contract(image=FILE), {"image": "https://example.com/a"}, "a cat", mixed
        )


async def test_a_failed_name_lookup_is_retryable() -> None:
    """The name server may be temporarily unavailable."""

    async def away(_host: str, _port: int) -> Sequence[str]:
        raise OSError("no answer")

    with pytest.raises(ProviderUnavailable):
        await validate_inputs(
            a_contract(image=FILE), {"image": "https://example.com/a"}, "a cat", away
        )
