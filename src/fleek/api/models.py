"""Available models, with the schemas of their parameters."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import Path

from fleek.api.deps import RuntimeDep
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import NotFound, ProviderError, ProviderUnavailable
from fleek.domain.job import MODEL_NAME, ModelName
from fleek.engine.runtime import Runtime
from fleek.providers.base import Model, Provider, SupportsModels
from fleek.schemas import ModelRead

router = strict_router("/api/v1", tag="models")


@router.get(
    "/models",
    scope=Scope.JOBS_READ,
    operation_id="list_models",
    summary="List models",
    response_description="The models.",
    responses=problems(ProviderError),
)
async def list_models(rt: RuntimeDep) -> list[ModelRead]:
    """Return the models of all configured providers. A provider may run other models, too."""
    return [
        _present(rt, name, model)
        for name, provider in rt.providers.items()
        for model in await _offered(provider)
    ]


@router.get(
    "/models/{owner}/{name}",
    scope=Scope.JOBS_READ,
    operation_id="get_model",
    summary="Get a model",
    response_description="The model.",
    responses=problems(NotFound, ProviderError),
)
async def get_model(
    owner: Annotated[str, Path(description="The part before the slash.")],
    name: Annotated[
        str, Path(description="The part after the slash; `name:version` for one version.")
    ],
    rt: RuntimeDep,
) -> ModelRead:
    """Return a model of the first provider that offers it."""
    wanted = ModelName(f"{owner}/{name}")
    if MODEL_NAME.fullmatch(wanted) is None:
        raise NotFound("no such model")
    for provider_name in sorted(rt.providers, key=lambda name: name != rt.settings.provider):
        found = await _found(rt, provider_name, wanted)
        if found is not None:
            return _present(rt, provider_name, found)
    raise NotFound("no such model")


async def _found(rt: Runtime, provider_name: str, wanted: ModelName) -> Model | None:
    provider = rt.providers[provider_name]
    try:
        schema = await provider.schema(wanted)
    except NotFound:
        return None
    for model in await _offered(provider):
        if model.name == wanted:
            return replace(model, schema=schema)
    return Model(name=wanted, description="", schema=schema)


async def _offered(provider: Provider) -> Sequence[Model]:
    """Return a provider's list of models; without a list, its default model."""
    if isinstance(provider, SupportsModels):
        return await provider.models()
    try:
        schema = await provider.schema(provider.default_model)
    except ProviderUnavailable:
        schema = None
    return [Model(name=provider.default_model, description="", schema=schema)]


def _present(rt: Runtime, provider_name: str, model: Model) -> ModelRead:
    first = provider_name == rt.settings.provider
    default = rt.settings.default_model or rt.providers[provider_name].default_model
    return ModelRead(
        name=model.name,
        provider=provider_name,
        description=model.description,
        output=model.output,
        default=first and model.name == default,
        parameters=model.schema,
    )
