"""Compilation of a schema, property by property, and validation of parameters with a budget.

Each property has its own validator, which stops at the first error: a list of all errors would
contain, for each value, those of every alternative. Patterns run on an engine with linear time. No
references are resolved, and nothing is retrieved.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import structlog

from fleek.domain.errors import FieldError, InvalidInput
from fleek.domain.text import closest, one_line
from fleek.domain.values import dataclass
from fleek.input_schema.normalized import normalize

MAX_WORK: Final = 400_000
"""Budget: comparisons of a value with a part of a schema, or of 4 characters with a pattern."""

MAX_ERRORS: Final = 20  # fields that are named
MAX_SUGGESTED: Final = 3  # unknown parameters for which a similar name is suggested
MAX_COMPARED: Final = 50  # names of parameters that are compared with a misspelt one
MAX_CHOICES: Final = 20  # values of an enumeration that are listed
MAX_DETAIL: Final = 500  # characters

PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=65_536, dfa_size_limit=1_048_576)

MESSAGES: Final[Mapping[str, tuple[str, str]]] = {  # by the schema's keyword: code and message
    "additionalProperties": ("unknown_parameter", "is not a parameter of this model"),
    "enum": ("not_a_choice", "is not one of the allowed values"),
    "const": ("not_a_choice", "is not the allowed value"),
    "type": ("wrong_type", "has the wrong type"),
    "minimum": ("too_small", "is too small"),
    "exclusiveMinimum": ("too_small", "is too small"),
    "maximum": ("too_large", "is too large"),
    "exclusiveMaximum": ("too_large", "is too large"),
    "minLength": ("too_short", "is too short"),
    "maxLength": ("too_long", "is too long"),
    "minItems": ("too_short", "has too few items"),
    "maxItems": ("too_long", "has too many items"),
    "multipleOf": ("not_a_step", "is not a multiple of the step"),
    "pattern": ("wrong_form", "does not have the required form"),
    "required": ("missing", "is missing"),
}
OTHER: Final = ("not_allowed", "is not allowed by the model's schema")


@dataclass(frozen=True, slots=True)
class _Property:
    schema: Mapping[str, Any]
    validator: Any
    nodes: int  # parts of the schema
    patterns: int

    def work(self, value: Any) -> int:
        """Return the maximum cost of validating a value."""
        values, chars = _size(value)
        return self.nodes * values + self.patterns * chars // 4


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """The compiled input schema of a model."""

    properties: Mapping[str, _Property]
    required: Sequence[str]
    closed: bool  # whether no other property is allowed

    def errors(self, parameters: Mapping[str, Any]) -> list[FieldError] | None:
        """Return one error per invalid parameter, at most `MAX_ERRORS`.

        None: the validation would take too long.
        """
        known = {name: self.properties[name] for name in parameters if name in self.properties}
        if sum(known[name].work(parameters[name]) for name in known) > MAX_WORK:
            return None
        return list(islice(self._errors(parameters), MAX_ERRORS))

    def _errors(self, parameters: Mapping[str, Any]) -> Iterator[FieldError]:
        for name in self.required:
            if name not in parameters:
                yield _field("required", [name])
        unknown = 0
        for name, value in parameters.items():
            known = self.properties.get(name)
            if known is None and self.closed:
                unknown += 1
                yield self._unknown(name, suggests=unknown <= MAX_SUGGESTED)
            elif known is not None:
                yield from _first(known, name, value)

    def _unknown(self, name: str, *, suggests: bool) -> FieldError:
        error = _field("additionalProperties", [name])
        meant = closest(name, islice(self.properties, MAX_COMPARED)) if suggests else None
        if meant is None:
            return error
        detail = f'{error.detail}; did you mean "{meant}"?'
        return replace(error, detail=detail, suggestion=_pointer([meant]))


def compile_schema(schema: Mapping[str, Any]) -> CompiledSchema | None:
    """Return the compiled schema, or None if it cannot be used.

    It covers each property, the required ones, and whether others are allowed.
    """
    plain = normalize(dict(schema), schema.get("$defs"))
    if plain is None:
        return None
    try:
        properties = {
            name: _Property(
                schema=member,
                validator=_validator(member),
                nodes=_size(member)[0],
                patterns=_count(member, "pattern"),
            )
            for name, member in plain.get("properties", {}).items()
        }
    except (ValueError, jsonschema_rs.ReferencingError):  # e.g. an invalid pattern
        return None
    return CompiledSchema(
        properties=properties,
        required=plain.get("required", []),
        closed="enum" in plain.get("additionalProperties", {}),
    )


def _validator(schema: Mapping[str, Any]) -> Any:
    return jsonschema_rs.Draft202012Validator(
        dict(schema),
        validate_formats=False,
        offline=True,  # without a retriever
        pattern_options=PATTERNS,
        mask="value",
    )


def _first(known: _Property, name: str, value: Any) -> Iterator[FieldError]:
    if _is_whole(value) and _takes_integers_only(known.schema):
        yield _field("type", [name])
        return
    try:
        known.validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        yield _described([name, *map(str, error.instance_path)], error.kind)


def _is_whole(value: Any) -> bool:
    """Whether a value is a float such as 1.0: an integer for JSON schema, but not for models."""
    return isinstance(value, float) and value.is_integer()


def _takes_integers_only(schema: Mapping[str, Any]) -> bool:
    options = [schema, *schema.get("anyOf", ())]
    named = [option.get("type") for option in options]
    types = {kind for kinds in named for kind in (kinds if isinstance(kinds, list) else [kinds])}
    return "integer" in types and "number" not in types


def _described(path: list[str], kind: Any) -> FieldError:
    unexpected = list(getattr(kind, "unexpected", ()))[:1]
    missing = getattr(kind, "property", None)
    names = [str(missing).strip('"')] if missing else [str(name) for name in unexpected]
    note = ""
    if (limit := getattr(kind, "limit", None)) is not None:
        note = f"; the limit is {limit}"
    if (options := getattr(kind, "options", None)) is not None:
        shown = ", ".join(map(str, options[:MAX_CHOICES]))
        note = f": {shown}" + (", …" if len(options) > MAX_CHOICES else "")
    return _field(kind.name, [*path, *names], note)


def _field(keyword: str, path: Sequence[str], note: str = "") -> FieldError:
    code, detail = MESSAGES.get(keyword, OTHER)
    detail = one_line(detail + note, MAX_DETAIL)
    return FieldError(pointer=_pointer(path), code=code, detail=detail)


def _pointer(path: Sequence[str]) -> str:
    parts = (part.replace("~", "~0").replace("/", "~1") for part in ("parameters", *path))
    return "".join(f"/{part}" for part in parts)


def _size(value: Any) -> tuple[int, int]:
    """Return the number of values in a value, including itself, and of characters."""
    values = chars = 0
    ahead = [value]
    while ahead:
        current = ahead.pop()
        values += 1
        if isinstance(current, str):
            chars += len(current)
        elif isinstance(current, dict):
            ahead.extend(current.values())
        elif isinstance(current, list):
            ahead.extend(current)
    return values, chars


def _count(schema: Mapping[str, Any], keyword: str) -> int:
    """Count the occurrences of a keyword in a schema."""
    count = 0
    ahead: list[Any] = [schema]
    while ahead:
        current = ahead.pop()
        if isinstance(current, dict):
            count += isinstance(current.get(keyword), str)
            ahead.extend(current.values())
        elif isinstance(current, list):
            ahead.extend(current)
    return count


MAX_COMPILED: Final = 128

log = structlog.get_logger(__name__)


class Validators:
    """A cache of compiled schemas, with their documents."""

    def __init__(self) -> None:
        self._compiled_by_id: dict[int, tuple[Mapping[str, Any], CompiledSchema | None]] = {}

    async def check(self, schema: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
        """Validate parameters; a schema that cannot be used allows all.

        Raises:
            InvalidInput: With one field error per parameter that the schema forbids.
        """
        compiled = await self._compiled(schema)
        if compiled is None:
            return
        errors = compiled.errors(parameters)
        if errors is None:
            log.warning("parameters_not_checked", reason="the validation would take too long")
        elif errors:
            raise InvalidInput(
                "the model does not accept these parameters",
                code="invalid_parameters",
                errors=errors,
            )

    async def _compiled(self, schema: Mapping[str, Any]) -> CompiledSchema | None:
        kept = self._compiled_by_id.get(id(schema))
        if kept is None or kept[0] is not schema:
            kept = (schema, await asyncio.to_thread(compile_schema, schema))
            if kept[1] is None:
                log.warning(
                    "input_schema_unusable", reason="not a JSON schema, or over the limits"
                )
            if len(self._compiled_by_id) >= MAX_COMPILED:
                self._compiled_by_id.clear()
            self._compiled_by_id[id(schema)] = kept
        return kept[1]
