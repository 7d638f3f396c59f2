"""A model's parameters, checked against the schema that its provider publishes."""

from collections.abc import Mapping
from typing import Any, Final

import jsonschema_rs

from fleek.domain.errors import FieldError, InvalidInput
from fleek.providers.base import Schema

KEPT: Final = 256  # compiled schemas

SAID: Final[Mapping[str, tuple[str, str]]] = {  # by the schema's keyword: our code and words
    "additionalProperties": ("unknown_parameter", "is not a parameter of this model"),
    "unevaluatedProperties": ("unknown_parameter", "is not a parameter of this model"),
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
    "format": ("wrong_form", "does not have the required form"),
    "required": ("missing", "is missing"),
}
OTHER: Final = ("not_allowed", "is not allowed by the model's schema")


class Validators:
    """Compiled schemas, each kept with the document it was made from."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Schema, Any]] = {}

    def check(self, schema: Schema, parameters: Mapping[str, Any]) -> None:
        """Check parameters against a schema.

        Raises:
            InvalidInput: With one field error per parameter that the schema forbids.
        """
        found = [
            field
            for error in self._validator(schema).iter_errors(parameters)
            for field in _fields(error)
        ]
        found.extend(_fractions(schema, parameters))
        if found:
            raise InvalidInput(
                "the model does not take these parameters", code="invalid_parameters", errors=found
            )

    def _validator(self, schema: Schema) -> Any:
        kept = self._kept.get(id(schema))
        if kept is None or kept[0] is not schema:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            kept = (schema, jsonschema_rs.validator_for(dict(schema), mask="value"))
            self._kept[id(schema)] = kept
        return kept[1]


def _fields(error: Any) -> list[FieldError]:
    kind = error.kind
    path = [str(part) for part in error.instance_path]
    names: list[str] = list(getattr(kind, "unexpected", ()))
    if missing := getattr(kind, "property", None):
        names = [str(missing).strip('"')]
    paths = [[*path, name] for name in names] or [path]
    code, detail = SAID.get(kind.name, OTHER)
    if (limit := getattr(kind, "limit", None)) is not None:
        detail = f"{detail}; the limit is {limit}"
    if (options := getattr(kind, "options", None)) is not None:
        detail = f"{detail}: {', '.join(map(str, options))}"
    return [FieldError(pointer=_pointer(one), code=code, detail=detail) for one in paths]


def _fractions(schema: Schema, parameters: Mapping[str, Any]) -> list[FieldError]:
    """Refuse 1.0 for an integer, which JSON schema would let pass and models do not."""
    properties = schema.get("properties", {})
    code, detail = SAID["type"]
    return [
        FieldError(pointer=_pointer([name]), code=code, detail=detail)
        for name, value in parameters.items()
        if isinstance(value, float)
        and value.is_integer()
        and properties.get(name, {}).get("type") == "integer"
    ]


def _pointer(path: list[str]) -> str:
    parts = (part.replace("~", "~0").replace("/", "~1") for part in ["parameters", *path])
    return "".join(f"/{part}" for part in parts)
