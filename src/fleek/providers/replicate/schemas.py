"""What parameters a model takes: asked of the API, turned into a plain JSON schema, remembered."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs

from fleek.domain.errors import FleekError, NotFound, ProviderUnavailable
from fleek.domain.job import ModelName
from fleek.providers.base import Schema
from fleek.providers.replicate.api import Api
from fleek.providers.replicate.errors import check_told, inquiry
from fleek.providers.replicate.names import read_name

KEPT: Final = 512  # models
FRESH_SECONDS: Final = 600.0
UNKNOWN_SECONDS: Final = 60.0  # for which "no such model" is believed
FAILED_SECONDS: Final = 10.0  # for which nobody asks again after a failure
PATIENCE_SECONDS: Final = 5.0  # for which a caller waits
MAX_DEPTH: Final = 12  # of references

Known = Schema | FleekError | None


@dataclass(slots=True)
class _Entry:
    known: Known
    until: float  # monotonic seconds
    last: Schema | None = None  # the last schema seen, however old


class Schemas:
    """Schemas by model. Many callers that ask for one at once cause one request."""

    def __init__(self, api: Api, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._kept: dict[ModelName, _Entry] = {}
        self._asking: dict[ModelName, asyncio.Task[Known]] = {}

    async def get(self, model: ModelName) -> Schema | None:
        """Return a model's schema; None if its name does not tell where to look.

        Raises:
            NotFound: There is no such model.
            ProviderUnavailable: The provider cannot be asked now.
        """
        entry = self._kept.get(model)
        if entry is not None and self._clock() < entry.until:
            return _given(entry.known)
        if (path := read_name(model).schema_path) is None:
            return None
        task = self._asking.get(model)
        if task is None:
            task = self._asking[model] = asyncio.create_task(self._ask(model, path))
            task.add_done_callback(lambda _: self._asking.pop(model, None))
        return _given(await asyncio.shield(task))

    async def close(self) -> None:
        """Give up what is being asked."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, model: ModelName, path: str) -> Known:
        last = entry.last if (entry := self._kept.get(model)) else None
        known: Known
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                known, seconds = await self._fetch(path), FRESH_SECONDS
        except NotFound as error:
            known, seconds = error, UNKNOWN_SECONDS
        except (ProviderUnavailable, TimeoutError) as error:
            unavailable = ProviderUnavailable(f"the model cannot be looked up now: {error}")
            known, seconds = last or unavailable, FAILED_SECONDS
        if last is not None and known == last:
            known = last  # the same object, so that what was compiled from it is found again
        newest = last if isinstance(known, FleekError) else known
        if len(self._kept) >= KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept.pop(model, None)
        self._kept[model] = _Entry(known, self._clock() + seconds, newest)
        return known

    async def _fetch(self, path: str) -> Schema | None:
        with inquiry():
            answer = await self._api.get(path)
            if answer.status == 404:
                raise NotFound("Replicate has no such model")
            check_told(answer)
            body = answer.json()
        return read_schema(body.get("latest_version", body))


def _given(known: Known) -> Schema | None:
    if isinstance(known, FleekError):
        raise type(known)(str(known))
    return known


def read_schema(version: Any) -> Schema | None:
    """Return the schema of the parameters in a version's OpenAPI document, the prompt left out.

    References are put in place, so that it stands alone. None if there is none, or if it is none.
    """
    document = version.get("openapi_schema") if isinstance(version, dict) else None
    components = document.get("components") if isinstance(document, dict) else None
    found = components.get("schemas") if isinstance(components, dict) else None
    schemas = found if isinstance(found, dict) else {}
    takes = schemas.get("Input")
    if not isinstance(takes, dict) or not isinstance(takes.get("properties"), dict):
        return None
    read = _plain(takes, schemas, 0)
    read["properties"].pop("prompt", None)
    required = [name for name in _listed(takes.get("required")) if name != "prompt"]
    schema = {**read, "type": "object", "required": required, "additionalProperties": False}
    try:
        jsonschema_rs.validator_for(schema)
    except (ValueError, jsonschema_rs.ReferencingError):
        return None  # not a schema that can be checked against; the host checks then
    return schema


def _listed(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _plain(value: Any, schemas: Mapping[str, Any], depth: int) -> Any:
    """Put references in place, and write what only OpenAPI 3.0 says as JSON schema does."""
    if isinstance(value, list):
        return [_plain(one, schemas, depth) for one in value]
    if not isinstance(value, dict):
        return value
    if depth > MAX_DEPTH:
        return {}  # it refers to itself: anything goes
    if isinstance(reference := value.get("$ref"), str):
        found = schemas.get(reference.removeprefix("#/components/schemas/"), {})
        return _plain(found, schemas, depth + 1)
    plain = {name: _plain(one, schemas, depth + 1) for name, one in value.items()}
    whole = plain.get("allOf")
    if isinstance(whole, list) and len(whole) == 1 and isinstance(whole[0], dict):
        del plain["allOf"]
        plain = {**whole[0], **plain}
    return _modern(plain)


def _modern(schema: dict[str, Any]) -> dict[str, Any]:
    for strict, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(strict) is True and limit in schema:
            schema[strict] = schema.pop(limit)
        elif isinstance(schema.get(strict), bool):
            del schema[strict]
    if schema.pop("nullable", None) is True:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema
