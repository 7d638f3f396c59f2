"""The model's published schema in our form, and the validation of inputs.

A Cog server opens any value of a file input: a path on its own disk, an address in its own
network. So a file must be a ``data:`` URI, or an https address at a public host.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Final

from yarl import URL

from fleek.domain.errors import ProviderRejected, ProviderUnavailable
from fleek.domain.values import dataclass
from fleek.input_schema import CompiledSchema, compile_schema, normalize
from fleek.outbound.addresses import (
    LOOKUP_SECONDS,
    Policy,
    Resolve,
    UnsafeAddress,
    parse,
    public,
)
from fleek.providers.base import Schema, prompt_note
from fleek.providers.outputs import makes_words

PROMPT: Final = "prompt"
MAX_FILE_CHARS: Final = 1_048_576
PUBLIC: Final = Policy()

FILE: Final = (
    r"^(https://[!-~]+|"
    r"data:((image|audio|video)/[a-z0-9.-]{1,60}|application/(octet-stream|pdf|zip)|text/plain)"
    r";base64,[A-Za-z0-9+/]+={0,2})$"
)
_FILE: Final = re.compile(FILE)
_BRANCHES: Final = ("allOf", "anyOf")


@dataclass(frozen=True, slots=True)
class Contract:
    """The inputs and the kind of output of a server's model."""

    parameters: Schema  # without the prompt
    prompted: bool  # whether it has a prompt
    prompt: Schema  # of the prompt
    words: bool  # whether it returns text, not files
    compiled: CompiledSchema = field(compare=False)  # of `parameters`


def contract(document: Any) -> Contract | None:
    """Return the contract in a model's OpenAPI document, or None if there is none."""
    components = document.get("components") if isinstance(document, dict) else None
    schemas = components.get("schemas") if isinstance(components, dict) else None
    if not isinstance(schemas, dict):
        return None
    given = normalize(schemas.get("Input"), schemas, exact=True)
    if given is None or not given.keys().isdisjoint(_BRANCHES):
        return None
    properties = given.get("properties", {})
    _restrict_files(properties)
    prompt = properties.pop(PROMPT, None)
    required = [name for name in given.get("required", []) if name in properties]
    note = prompt_note(exists=prompt is not None, required=PROMPT in given.get("required", []))
    parameters = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        **note,
    }
    if (compiled := compile_schema(parameters)) is None:
        return None
    return Contract(
        parameters=parameters,
        prompted=prompt is not None,
        prompt=prompt or {},
        words=makes_words(document),
        compiled=compiled,
    )


async def validate_inputs(
    known: Contract, given: Mapping[str, Any], prompt: str, resolve: Resolve
) -> None:
    """Check that every parameter is known and that files are data or public.

    Raises:
        ProviderRejected: A parameter is unknown, or a file is not allowed.
        ProviderUnavailable: A host cannot be resolved now.
    """
    if known.compiled.errors(given) is None:
        raise ProviderRejected("the parameters are too large to be checked")
    properties: Mapping[str, Schema] = known.parameters["properties"]
    named = [(name, properties.get(name), value) for name, value in given.items()]
    if known.prompted and prompt:
        named.append((PROMPT, known.prompt, prompt))
    for name, schema, value in named:
        if schema is None:
            raise ProviderRejected(f"{name}: is not a parameter of this model")
        for file in _files(schema, value):
            await _validate_file(name, file, resolve)


async def _validate_file(name: str, file: str, resolve: Resolve) -> None:
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


async def _addresses(name: str, url: URL, resolve: Resolve) -> list[str]:
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            return list(await resolve(url.raw_host or "", url.port or 443))
    except (OSError, UnicodeError) as error:  # a TimeoutError is an OSError
        raise ProviderUnavailable(f"{name}: the host cannot be resolved now") from error


def _files(schema: Schema, value: Any) -> Iterator[str]:
    """Yield the strings in `value` that the model would open as files."""
    if isinstance(value, str):
        if schema.get("format") == "uri":
            yield value
    elif isinstance(value, list):
        items = schema.get("items", {})
        yield from (file for item in value for file in _files(items, item))
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", {})
        rest = rest if isinstance(rest, dict) else {}
        for key, item in value.items():
            yield from _files(known.get(key, rest), item)
    for branch in _BRANCHES:
        for option in schema.get(branch, ()):
            yield from _files(option, value)


def _restrict_files(schema: dict[str, Any]) -> None:
    """Restrict every file in a schema to the allowed forms."""
    ahead: list[Any] = [schema]
    while ahead:
        current = ahead.pop()
        if isinstance(current, list):
            ahead.extend(current)
        elif isinstance(current, dict):
            ahead.extend(current.values())
            if current.get("type") == "string" and current.get("format") == "uri":
                current |= {"pattern": FILE, "maxLength": MAX_FILE_CHARS}
