"""Available models, with the schemas of their parameters."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from fleek.api.deps import NEXT_LINK, RuntimeDep, StrictInt, link
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.catalogue import STAND_IN, CatalogueModel
from fleek.domain.errors import NotFound, ProviderError, ProviderUnavailable
from fleek.domain.job import MODEL_NAME, Kind, ModelName
from fleek.engine.runtime import Runtime
from fleek.providers.base import Model, Provider, SupportsModels
from fleek.schemas import ModelRead, ModelRouteRead
from fleek.schemas.filter import MAX_QUERY, Bool

MAX_LISTED: Final = 1000

LISTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            **NEXT_LINK,
            "X-Total-Count": {
                "description": "How many models match.",
                "schema": {"type": "integer"},
            },
        }
    }
}

router = strict_router("/api/v1", tag="models")


class ModelListQuery(BaseModel):
    """Query parameters of a list of models. All conditions must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    q: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_QUERY,
        description="Words that the names or the description contain, all of them.",
    )
    kind: Kind | None = Field(default=None, description="What it makes.")
    provider: str | None = Field(
        default=None, max_length=100, description="A provider that runs it."
    )
    available: Bool = Field(
        default=None, description="`true`: only models that a configured provider runs."
    )
    limit: Annotated[int, StrictInt] = Field(
        default=MAX_LISTED, ge=1, le=MAX_LISTED, description="Maximum number of models."
    )
    offset: Annotated[int, StrictInt] = Field(
        default=0, ge=0, le=MAX_LISTED * 10, description="Number of models to skip."
    )

    def admits(self, model: ModelRead) -> bool:
        """Whether a model is one of those that are asked for."""
        providers = {route.provider for route in model.routes} or {model.provider}
        names = (model.name, model.description, *model.aliases, *_names(model))
        text = " ".join(names).casefold()
        return (
            (self.kind is None or model.kind == self.kind)
            and (self.provider is None or self.provider in providers)
            and (self.available is None or self.available == model.available)
            and all(word in text for word in (self.q or "").casefold().split())
        )


def _names(model: ModelRead) -> Iterator[str]:
    return (route.model for route in model.routes)


@router.get(
    "/models",
    scope=Scope.JOBS_READ,
    operation_id="list_models",
    summary="List models",
    response_description="The models.",
    responses=LISTED | problems(ProviderError),
)
async def list_models(
    rt: RuntimeDep, response: Response, query: Annotated[ModelListQuery, Query()]
) -> list[ModelRead]:
    """Return the models of all configured providers, then those of the catalogue.

    A provider may run other models, too.
    """
    found = [model async for model in _all(rt) if query.admits(model)]
    response.headers["X-Total-Count"] = str(len(found))
    end = query.offset + query.limit
    if end < len(found):
        following = query.model_dump(mode="json", exclude_defaults=True) | {"offset": end}
        words = {
            name: str(value).lower() if value is True or value is False else value
            for name, value in following.items()
        }
        address = link(rt, f"/api/v1/models?{urlencode(words)}")
        response.headers["Link"] = f'<{address}>; rel="next"'
    return found[query.offset : end]


async def _all(rt: Runtime) -> AsyncIterator[ModelRead]:
    for name, provider in rt.providers.items():
        for model in await _offered(provider):
            yield _present(rt, name, model)
    for entry in rt.catalogue.models.values():
        yield _present_entry(rt, entry)


@router.get(
    "/models/{name}",
    scope=Scope.JOBS_READ,
    operation_id="get_catalogue_model",
    summary="Get a model of the catalogue",
    response_description="The model.",
    responses=problems(NotFound, ProviderError),
)
async def get_catalogue_model(
    name: Annotated[str, Path(description="A name or alias without a slash.")], rt: RuntimeDep
) -> ModelRead:
    """Return a model of the catalogue, or of a provider whose names have no slash."""
    if (entry := rt.catalogue.get(name)) is not None:
        return _present_entry(rt, entry)
    return await _of_providers(rt, rt.catalogue.resolve(name))


@router.get(
    "/models/{owner}/{name:path}",
    scope=Scope.JOBS_READ,
    operation_id="get_model",
    summary="Get a model",
    response_description="The model.",
    responses=problems(NotFound, ProviderError),
)
async def get_model(
    owner: Annotated[str, Path(description="The part before the slash.")],
    name: Annotated[
        str,
        Path(
            description="The part after the slash; `name:version` for one version, or `app/path`."
        ),
    ],
    rt: RuntimeDep,
) -> ModelRead:
    """Return a model of the first provider that offers it."""
    wanted = f"{owner}/{name}"
    if (entry := rt.catalogue.get(wanted)) is not None:
        return _present_entry(rt, entry)
    return await _of_providers(rt, wanted)


async def _of_providers(rt: Runtime, name: str) -> ModelRead:
    wanted = ModelName(name)
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
        kind=model.output,
        default=first and model.name == default,
        price=_price(rt, provider_name, model.name),
        parameters=model.schema,
    )


def _present_entry(rt: Runtime, entry: CatalogueModel) -> ModelRead:
    routes = [
        ModelRouteRead(
            provider=route.provider,
            model=route.model,
            configured=route.provider in rt.providers,
            unverified=not route.verified,
            parameters=sorted(route.expresses),
            price=_price(rt, route.provider, route.model),
        )
        for route in entry.routes
    ]
    configured = [route.provider for route in routes if route.configured]
    first = next((route for route in routes if route.configured), routes[0])
    stand_in = [STAND_IN] if rt.settings.provider == STAND_IN else []
    return ModelRead(
        name=entry.name,
        provider=[*configured, *stand_in, first.provider][0],
        price=None if stand_in and not configured else first.price,
        description=entry.description,
        output=entry.kind,
        kind=entry.kind,
        default=rt.catalogue.resolve(rt.settings.default_model or "") == entry.name,
        available=bool(configured or stand_in),
        aliases=list(entry.aliases),
        routes=routes,
        parameters=entry.parameters,
    )


def _price(rt: Runtime, provider: str, model: str) -> dict[str, str] | None:
    price = rt.prices.find(provider, model)
    return None if price is None else {unit.value: f"{usd:f}" for unit, usd in price.units.items()}
