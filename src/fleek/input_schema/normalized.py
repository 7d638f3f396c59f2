"""A copy of a schema within a budget: allowed keywords only, with references resolved.

A keyword that is not copied is not checked: the validation is more lenient, never stricter. So
``oneOf`` is copied as ``anyOf``. Source of the keywords: JSON schema 2020-12, OpenAPI 3.0.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from fleek.domain.text import strip_unstorable

MAX_NODES: Final = 5000  # values in the copy, including resolved references
MAX_CHARS: Final = 262_144  # of all strings and names in the copy
MAX_DEPTH: Final = 32  # levels of nesting
MAX_PROPERTIES: Final = 300  # of one object
MAX_KEYWORDS: Final = 64  # of one schema, including unknown ones
MAX_PATTERN: Final = 512  # characters
MAX_PATTERNS: Final = 100  # of one schema: each takes a fraction of a millisecond to compile
MAX_REFERENCE: Final = 512  # characters
MAX_OPTIONS: Final = 500  # members of all `anyOf` and `oneOf` together
MAX_NUMBER: Final = 1e300
MAX_LENGTH: Final = 2**53

TYPES: Final = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
NOTHING: Final[Mapping[str, Any]] = {"enum": []}  # the schema `false`, as an object

_LIMITS: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "multipleOf",
)
_LENGTHS: Final = (
    *("minLength", "maxLength", "minItems", "maxItems"),
    *("minProperties", "maxProperties"),
)
_WORDS: Final = ("title", "description", "format")
_FLAGS: Final = ("uniqueItems", "deprecated", "readOnly", "writeOnly")
_VALUES: Final = ("default", "const", "x-order", "examples", "example")
_NESTED: Final = ("items", "additionalProperties")
_BRANCHES: Final = ("anyOf", "oneOf", "allOf")
_SCHEMAS_IGNORED: Final = frozenset(
    {
        *("not", "if", "then", "else", "contains", "prefixItems", "patternProperties"),
        *("propertyNames", "dependentSchemas", "dependencies", "additionalItems"),
        *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
        *("$dynamicRef", "$recursiveRef"),
    }
)
_REFERENCE: Final = re.compile(r"#/(?:components/schemas|\$defs|definitions)/([^/]+)")


class _Unusable(ValueError):
    """The value is not a schema, or exceeds the budget."""


def normalize(
    schema: Any, definitions: Any = None, *, exact: bool = False
) -> dict[str, Any] | None:
    """Return a self-contained copy, or None if it is not a schema or exceeds the budget.

    A recursive or dangling reference allows anything. With `exact`, the result is None if a
    keyword that may contain a schema would be omitted.
    """
    try:
        return _Copy(definitions if isinstance(definitions, dict) else {}, exact=exact).schema(
            schema, ()
        )
    except _Unusable:
        return None


class _Copy:
    """One copy, with its remaining budget."""

    def __init__(self, definitions: Mapping[str, Any], *, exact: bool) -> None:
        self._definitions = definitions
        self._exact = exact
        self._nodes = MAX_NODES
        self._chars = MAX_CHARS
        self._options = MAX_OPTIONS
        self._patterns = MAX_PATTERNS

    def schema(self, schema: Any, path: tuple[str, ...], depth: int = 0) -> dict[str, Any]:
        """Copy one schema; `path` contains the references to it."""
        self._spend(depth)
        if isinstance(schema, bool):
            return {} if schema else dict(NOTHING)
        if not isinstance(schema, dict) or len(schema) > MAX_KEYWORDS:
            raise _Unusable
        if self._exact and not _SCHEMAS_IGNORED.isdisjoint(schema):
            raise _Unusable
        copy: dict[str, Any] = {}
        for keyword, value in schema.items():
            if keyword in _BRANCHES or keyword == "$ref":
                continue
            self._keyword(copy, keyword, value, path, depth)
        self._alternatives(copy, schema, path, depth)
        self._parts(copy, schema, path, depth)
        _modernize(copy, schema)
        if schema.get("nullable") is True and depth:
            return {"anyOf": [copy, {"type": "null"}]}
        return copy

    def _keyword(
        self, copy: dict[str, Any], keyword: str, value: Any, path: tuple[str, ...], depth: int
    ) -> None:
        if keyword in _NESTED:
            copy[keyword] = self.schema(value, path, depth + 1)
        elif keyword == "properties":
            copy[keyword] = self._properties(value, path, depth)
        elif keyword == "required":
            if isinstance(value, list):  # else it is of an older draft, or invalid
                copy[keyword] = self._names(value)
        elif keyword == "enum":
            copy[keyword] = self._list(value, depth)
        elif keyword in _VALUES:
            copy[keyword] = self._value(value, depth + 1)
        elif keyword in _SCALARS and not isinstance(value, bool | None):
            self._spend(depth)
            copy[keyword] = self._checked(keyword, value)
        elif keyword in _FLAGS and isinstance(value, bool):
            copy[keyword] = value

    def _checked(self, keyword: str, value: Any) -> Any:
        value = _SCALARS[keyword](value)
        self._patterns -= keyword == "pattern"
        if self._patterns < 0:
            raise _Unusable
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                self._write(text)
        return value

    def _properties(self, value: Any, path: tuple[str, ...], depth: int) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > MAX_PROPERTIES:
            raise _Unusable
        return {
            self._write(name): self.schema(member, path, depth + 1)
            for name, member in value.items()
        }

    def _names(self, value: list[Any]) -> list[str]:
        names = []
        for name in value:
            self._spend(0)
            if isinstance(name, str):
                names.append(self._write(name))
        return list(dict.fromkeys(names))

    def _alternatives(
        self, copy: dict[str, Any], schema: Mapping[str, Any], path: tuple[str, ...], depth: int
    ) -> None:
        """Copy ``anyOf`` and ``oneOf``; a schema may have both."""
        alternatives = [schema[keyword] for keyword in ("anyOf", "oneOf") if keyword in schema]
        copies = []
        for members in alternatives:
            if not isinstance(members, list) or not members:
                raise _Unusable
            self._options -= len(members)
            if self._options < 0:
                raise _Unusable
            copies.append([self.schema(member, path, depth + 1) for member in members])
        if copies:
            copy["anyOf"] = copies.pop(0)
        if copies:
            copy["allOf"] = [{"anyOf": copies.pop(0)}]

    def _parts(
        self, copy: dict[str, Any], schema: Mapping[str, Any], path: tuple[str, ...], depth: int
    ) -> None:
        """Copy ``allOf`` and the target of ``$ref``; a single one is merged if possible."""
        members = schema.get("allOf", [])
        if not isinstance(members, list):
            raise _Unusable
        parts = [self.schema(member, path, depth + 1) for member in members]
        if "$ref" in schema:
            parts.append(self._referred(schema["$ref"], path, depth))
        parts += copy.pop("allOf", [])
        if len(parts) == 1 and not (parts[0].keys() - _ANNOTATIONS) & copy.keys():
            merged = {**parts[0], **copy}
            copy.clear()
            copy.update(merged)
        elif parts:
            copy["allOf"] = parts

    def _referred(self, reference: Any, path: tuple[str, ...], depth: int) -> dict[str, Any]:
        short = isinstance(reference, str) and len(reference) <= MAX_REFERENCE
        match = _REFERENCE.fullmatch(reference) if short else None
        name = match[1] if match else ""
        definition = self._definitions.get(name)
        if name in path or not isinstance(definition, dict | bool):
            if self._exact:
                raise _Unusable
            return {}
        return self.schema(definition, (*path, name), depth + 1)

    def _list(self, value: Any, depth: int) -> list[Any]:
        if not isinstance(value, list):
            raise _Unusable
        return [self._value(item, depth + 1) for item in value]

    def _value(self, value: Any, depth: int) -> Any:
        """Copy any JSON."""
        self._spend(depth)
        if isinstance(value, str):
            return self._write(value)
        if isinstance(value, list):
            return self._list(value, depth)
        if isinstance(value, dict):
            return {self._write(key): self._value(item, depth + 1) for key, item in value.items()}
        return value if value is None or isinstance(value, bool) else _number(value)

    def _write(self, text: str) -> str:
        self._chars -= len(text)
        if self._chars < 0:
            raise _Unusable
        return strip_unstorable(text)

    def _spend(self, depth: int) -> None:
        self._nodes -= 1
        if self._nodes < 0 or depth > MAX_DEPTH:
            raise _Unusable


def _modernize(copy: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """Convert the exclusive limits of OpenAPI 3.0, which are flags, to those of JSON schema."""
    for strict, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(strict) is True and limit in copy:
            copy[strict] = copy.pop(limit)


def _number(value: Any) -> Any:
    """Return a finite number that every JSON parser reads."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unusable
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise _Unusable
    return value


def _step(value: Any) -> Any:
    if _number(value) <= 0:
        raise _Unusable
    return value


def _length(value: Any) -> int:
    if not 0 <= _number(value) <= MAX_LENGTH or value != int(value):
        raise _Unusable
    return int(value)


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unusable
    return strip_unstorable(value)


def _pattern(value: Any) -> str:
    if len(_word(value)) > MAX_PATTERN:
        raise _Unusable
    return strip_unstorable(value)


def _type(value: Any) -> Any:
    names = value if isinstance(value, list) else [value]
    if not 0 < len(names) <= len(TYPES) or not all(
        isinstance(name, str) and name in TYPES for name in names
    ):
        raise _Unusable
    return list(dict.fromkeys(names)) if isinstance(value, list) else value


_SCALARS: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(_LIMITS, _number),
    **dict.fromkeys(_LENGTHS, _length),
    **dict.fromkeys(_WORDS, _word),
    "multipleOf": _step,
    "pattern": _pattern,
    "type": _type,
}
_ANNOTATIONS: Final = frozenset(
    {"title", "description", "default", "example", "examples", "x-order", "deprecated"}
)
