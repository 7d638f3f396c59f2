"""Validation of a model's parameters against the schema that its provider publishes."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog

from fleek.domain.errors import InvalidInput
from fleek.input_schema import CompiledSchema, compile_schema
from fleek.providers.base import Schema

MAX_COMPILED: Final = 128

log = structlog.get_logger(__name__)


class Validators:
    """A cache of compiled schemas, each with the document that it was made from."""

    def __init__(self) -> None:
        self._compiled_by_id: dict[int, tuple[Schema, CompiledSchema | None]] = {}

    async def check(self, schema: Schema, parameters: Mapping[str, Any]) -> None:
        """Check parameters against a schema; one that cannot be used allows all.

        Raises:
            InvalidInput: With one field error per parameter that the schema forbids.
        """
        compiled = await self._compiled(schema)
        if compiled is None:
            return
        errors = compiled.errors(parameters)
        if errors is None:
            log.warning("parameters_not_checked", reason="the check would take too long")
        elif errors:
            raise InvalidInput(
                "the model does not take these parameters",
                code="invalid_parameters",
                errors=errors,
            )

    async def _compiled(self, schema: Schema) -> CompiledSchema | None:
        kept = self._compiled_by_id.get(id(schema))
        if kept is None or kept[0] is not schema:
            kept = (schema, await asyncio.to_thread(compile_schema, schema))
            if kept[1] is None:
                log.warning("input_schema_unusable", reason="no JSON schema, or over the limits")
            if len(self._compiled_by_id) >= MAX_COMPILED:
                self._compiled_by_id.clear()
            self._compiled_by_id[id(schema)] = kept
        return kept[1]
