"""Models as facades find them: by name, at whichever provider has them."""

from collections.abc import Sequence
from typing import Any, Final

from fleek.domain.errors import NotFound, ProviderError, ProviderUnavailable
from fleek.domain.job import ModelName
from fleek.engine.routes import split_provider
from fleek.engine.runtime import Runtime
from fleek.providers.base import Model, Schema, SupportsModels

COUNTS: Final = ("num_outputs", "num_images", "number_of_images", "batch_size", "n", "count")
"""Parameters that say how many outputs a model makes."""


async def find_model(rt: Runtime, name: ModelName) -> tuple[str | None, Schema | None]:
    """Return the first provider that has a model, and its schema.

    No provider: the engine finds one, by the catalogue or as the default. No schema: it is unknown now.
    """
    if (entry := rt.catalogue.get(name)) is not None:
        return None, entry.parameters
    named, own = split_provider(rt.catalogue.resolve(name))
    known = by_preference(rt) if named is None or named not in rt.providers else [named]
    for provider_name in known:
        try:
            return provider_name, await rt.providers[provider_name].schema(ModelName(own))
        except NotFound:
            continue
        except ProviderError:
            return provider_name, None
    return None, None


def by_preference(rt: Runtime) -> list[str]:
    """Return the names of providers, the default one first."""
    return sorted(rt.providers, key=lambda each: each != rt.settings.provider)


async def offered(rt: Runtime) -> Sequence[tuple[str, Model]]:
    """Return the models that providers list, each with its provider, the default one's first."""
    found: list[tuple[str, Model]] = []
    for provider_name in by_preference(rt):
        provider = rt.providers[provider_name]
        try:
            if isinstance(provider, SupportsModels):
                models = await provider.models()
            else:
                name = provider.default_model
                models = [Model(name=name, description="", schema=await provider.schema(name))]
        except ProviderUnavailable:
            continue
        found += [(provider_name, model) for model in models]
    return found


def several_outputs(schema: Schema) -> str:
    """Return whether a model can make several outputs: "list" or "single"."""
    return "list" if count_parameter(schema) is not None else "single"


def count_parameter(schema: Schema) -> str | None:
    """Return the parameter that says how many outputs a model makes; None: it has none."""
    properties: Any = schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    return next((name for name in COUNTS if name in known), None)
