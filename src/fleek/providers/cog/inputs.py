"""What the model takes: its published schema in our form, and inputs that may reach it.

A Cog server opens whatever it is given for a file: a path on its own disk, an address in its own
network. So a file must come as a ``data:`` URI, or from https at a public host.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from fleek.domain.errors import ProviderRejected, ProviderUnavailable
from fleek.outbound import (
    LOOKUP_SECONDS,
    Policy,
    Resolve,
    UnsafeAddress,
    parse,
    port_of,
    public,
)
from fleek.providers.base import Schema

PROMPT: Final = "prompt"
MAX_FILE_CHARS: Final = 1_048_576
MAX_DEPTH: Final = 16  # schemas within one another
PUBLIC: Final = Policy()

FILE: Final = (
    r"^(https://[!-~]{1,2040}|"
    r"data:((image|audio|video)/[a-z0-9.-]{1,60}|application/(octet-stream|pdf|zip)|text/plain)"
    r";base64,[A-Za-z0-9+/]+={0,2})$"
)
_FILE: Final = re.compile(FILE)
_BRANCHES: Final = ("allOf", "anyOf", "oneOf")
_WITHIN: Final = ("items", "additionalProperties")


@dataclass(frozen=True, slots=True)
class Contract:
    """What a server's model takes."""

    parameters: Schema  # without the prompt
    prompted: bool  # whether it takes a prompt at all
    prompt: Schema  # what the prompt must be


def contract(document: Any) -> Contract | None:
    """Return what an OpenAPI document says of the model, or None if it says nothing."""
    try:
        schemas = document["components"]["schemas"]
        given = _inlined(schemas["Input"], schemas, MAX_DEPTH)
        properties = dict(given.get("properties", {}))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    prompt = properties.pop(PROMPT, None)
    required = [name for name in given.get("required", []) if name in properties]
    parameters = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    return Contract(
        parameters=parameters,
        prompted=prompt is not None,
        prompt=prompt or {},
    )


async def vet(known: Contract, given: Mapping[str, Any], prompt: str, resolve: Resolve) -> None:
    """Make sure that no parameter is unknown, and none leads to a file that is not public.

    Raises:
        ProviderRejected: One is or does.
        ProviderUnavailable: A host cannot be looked up now.
    """
    properties: Mapping[str, Schema] = known.parameters["properties"]
    named = [(name, properties.get(name), value) for name, value in given.items()]
    if known.prompted:
        named.append((PROMPT, known.prompt, prompt))
    for name, schema, value in named:
        if schema is None:
            raise ProviderRejected(f"{name}: is not a parameter of this model")
        for file in _files(schema, value):
            await _vet_file(name, file, resolve)


async def _vet_file(name: str, file: str, resolve: Resolve) -> None:
    if len(file) > MAX_FILE_CHARS or _FILE.fullmatch(file) is None:
        raise ProviderRejected(f"{name}: must be an https URL or a data URI with base64")
    if file.startswith("data:"):
        return
    try:
        url = parse(file, PUBLIC)
    except UnsafeAddress as error:
        raise ProviderRejected(f"{name}: {error}") from error
    if not all(map(public, await _addresses(name, url, resolve))):
        raise ProviderRejected(f"{name}: the host has an address that is not public")


async def _addresses(name: str, url: httpx2.URL, resolve: Resolve) -> list[str]:
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            return list(await resolve(url.raw_host.decode("ascii"), port_of(url)))
    except (OSError, UnicodeError) as error:  # a TimeoutError is an OSError
        raise ProviderUnavailable(f"{name}: the host cannot be found now") from error


def _files(schema: Schema, value: Any) -> Iterator[str]:
    """Give the strings in `value` that the model would open."""
    if isinstance(value, str):
        if schema.get("format") == "uri":
            yield value
    elif isinstance(value, list):
        items = schema.get("items", {})
        yield from (file for one in value for file in _files(items, one))
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", {})
        rest = rest if isinstance(rest, dict) else {}
        for key, one in value.items():
            yield from _files(known.get(key, rest), one)
    for branch in _BRANCHES:
        for option in schema.get(branch, ()):
            yield from _files(option, value)


def _inlined(schema: Any, schemas: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Return a schema without references, and in the words of JSON schema, not OpenAPI 3.0.

    Raises:
        ValueError: It is no schema, refers to what is not there, or goes too deep.
    """
    if not isinstance(schema, dict) or depth == 0:
        raise ValueError("this is no schema, or one within too many others")
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix("#/components/schemas/")
        if name not in schemas:
            raise ValueError("the schema refers to what is not there")
        return _inlined(schemas[name], schemas, depth - 1)
    plain = dict(schema)
    nullable = plain.pop("nullable", False) is True
    if "properties" in plain:
        members = plain["properties"].items()
        plain["properties"] = {key: _inlined(one, schemas, depth - 1) for key, one in members}
    for word in _WITHIN:
        if isinstance(plain.get(word), dict):
            plain[word] = _inlined(plain[word], schemas, depth - 1)
    for word in _BRANCHES:
        if word in plain:
            plain[word] = [_inlined(one, schemas, depth - 1) for one in plain[word]]
    if plain.get("type") == "string" and plain.get("format") == "uri":
        plain |= {"pattern": FILE, "maxLength": MAX_FILE_CHARS}
    return {"anyOf": [plain, {"type": "null"}]} if nullable else plain
