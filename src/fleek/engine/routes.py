"""Find where a job can be run: the routes of the models that a request names, checked one by one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from fleek.domain.catalogue import FILES, STAND_IN, CatalogueRoute, translate
from fleek.domain.errors import FieldError, InvalidInput, NotFound, ProviderError
from fleek.domain.inputs import MediaInput
from fleek.domain.job import JobRequest, ModelName
from fleek.domain.routing import Route, RouteOrder, RouteRequest, Routing
from fleek.domain.values import dataclass
from fleek.engine.inputs import checkable, find_inputs
from fleek.engine.runtime import Runtime
from fleek.providers.base import Provider, Schema, needs_prompt
from fleek.store import statistics

MOST_ROUTES: Final = 20  # of one job
NO_PROMPT: Final = FieldError("/prompt", "missing", "is required by this model")
MEASURED: Final = timedelta(hours=1)  # jobs that ended since then say how fast a route is


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A model of a provider that may run the job."""

    pointer: str  # of its name in the request
    provider: str
    model: ModelName
    route: CatalogueRoute | None = None  # None: it was named as its provider names it
    elsewhere: str = ""  # the providers, not configured here, of a model of the catalogue
    needs_prompt: bool = False  # as its entry in the catalogue says, whatever its schema
    spares_prompt: bool = False  # the same for a model that the placeholder stands in for


async def find_route(rt: Runtime, request: JobRequest) -> tuple[Route, Routing | None]:
    """Return where a job runs first, and all of its routes if the catalogue was used for them.

    Raises:
        InvalidInput: There is no such provider or model, or the parameters do not fit it.
    """
    candidates = _candidates(rt, request)
    if not request.models and len(candidates) == 1 and candidates[0].route is None:
        return await _checked(rt, request, candidates[0]), None
    routes = await _usable(rt, request, candidates)
    routing = Routing(
        request=RouteRequest(
            models=request.models or (request.model or candidates[0].model,),
            parameters=request.parameters,
            provider=request.provider,
            order=request.route,
            strict=request.strict_parameters,
        ),
        routes=tuple(await in_order(rt, request, routes)),
    )
    return routing.route, routing


def route_of(rt: Runtime, request: JobRequest) -> tuple[str, ModelName]:
    """Return the provider and the model that a request names first; nothing is checked.

    Raises:
        InvalidInput: There is no such provider.
    """
    first = _candidates(rt, request)[0]
    return first.provider, first.model


def provider_of(rt: Runtime, name: str, *, pointer: str = "/provider") -> Provider:
    """Return a configured provider.

    Raises:
        InvalidInput: There is no such provider.
    """
    provider = rt.providers.get(name)
    if provider is None:
        detail = f"is not configured here; choose one of: {', '.join(sorted(rt.providers))}"
        raise InvalidInput(
            "there is no such provider",
            code="unknown_provider",
            errors=[FieldError(pointer=pointer, code="unknown_provider", detail=detail)],
        )
    return provider


def _candidates(rt: Runtime, request: JobRequest) -> list[_Candidate]:
    """Return what the request names, in its order, as far as its providers are open."""
    if request.models:
        return [
            candidate
            for number, name in enumerate(request.models)
            for candidate in _named(rt, request, name, pointer=f"/models/{number}")
        ]
    name = request.provider or rt.settings.provider
    chosen = rt.settings.default_model if name == rt.settings.provider else None
    if (model := request.model or chosen) is not None:
        return _named(rt, request, model, pointer="/model_name")
    return [_Candidate("/model_name", name, provider_of(rt, name).default_model)]


def _named(rt: Runtime, request: JobRequest, name: str, *, pointer: str) -> list[_Candidate]:
    """Return the routes of a name of the catalogue; any other one is a provider's own.

    So is one of the catalogue if no provider of its routes is open.
    """
    resolved = rt.catalogue.resolve(name)
    entry = rt.catalogue.models.get(resolved)
    routes = () if entry is None else entry.routes
    needed = entry is not None and entry.prompt is None
    open_routes = [
        _Candidate(pointer, route.provider, route.model, route, needs_prompt=needed)
        for route in routes
        if route.provider in rt.providers and request.provider in {None, route.provider}
    ]
    if open_routes:
        return open_routes
    provider, own = split_provider(resolved)
    chosen = provider or request.provider or rt.settings.provider
    provider_of(rt, chosen, pointer=pointer if provider else "/provider")
    elsewhere = ", ".join(dict.fromkeys(route.provider for route in routes))
    spared = entry is not None and entry.prompt is not None and chosen == STAND_IN
    return [_Candidate(pointer, chosen, ModelName(own), elsewhere=elsewhere, spares_prompt=spared)]


def split_provider(name: str) -> tuple[str | None, str]:
    """Split ``provider:model``; in ``owner/name:version`` there is no provider."""
    before, colon, rest = name.partition(":")
    return (before, rest) if colon and "/" not in before else (None, name)


async def in_order(rt: Runtime, request: JobRequest, routes: Sequence[Route]) -> list[Route]:
    """Return routes in the order that a request wants; those without a figure come last."""
    if request.route is RouteOrder.LISTED or len(routes) < 2:
        return list(routes)
    if request.route is RouteOrder.CHEAPEST:
        figures: list[float | None] = [
            rt.prices.estimate(route.provider, route.model, {**request.parameters, **route.input})
            for route in routes
        ]
    else:
        since = rt.now() - MEASURED
        medians = await statistics.medians(rt.db, since=since)
        figures = [medians.get((route.provider, route.model)) for route in routes]
    ranked = sorted(
        zip(figures, routes, strict=True),
        key=lambda ranked: math.inf if ranked[0] is None else ranked[0],
    )
    return [route for _, route in ranked]


async def _usable(
    rt: Runtime, request: JobRequest, candidates: Sequence[_Candidate]
) -> list[Route]:
    """Return the candidates that can run the job; of each name at least one.

    Raises:
        InvalidInput: None of a name can, or one of them needs a prompt and there is none.
    """
    usable: dict[str, list[Route]] = {}
    problems: dict[str, InvalidInput] = {}
    for candidate in candidates[:MOST_ROUTES]:
        routes = usable.setdefault(candidate.pointer, [])
        try:
            routes.append(await _checked(rt, request, candidate))
        except InvalidInput as error:
            if error.errors == (NO_PROMPT,):  # a forgotten prompt chooses no route
                raise
            problems.setdefault(candidate.pointer, error)
    for pointer, routes in usable.items():
        if not routes:
            raise problems[pointer]
    first, *others = (route for routes in usable.values() for route in routes)
    same = [route for route in others if _files(route.inputs) == _files(first.inputs)]
    return [first, *same]


def _files(inputs: Sequence[MediaInput]) -> list[tuple[object, ...]]:
    """Return which files a route takes, whatever it calls them."""
    return [(each.kind, each.id, each.index) for each in inputs]


async def _checked(rt: Runtime, request: JobRequest, candidate: _Candidate) -> Route:
    """Return the route of a candidate, with the parameters checked as far as possible now.

    Raises:
        InvalidInput: There is no such model, or the parameters do not fit it.
    """
    provider = rt.providers[candidate.provider]
    schema = await _schema(provider, candidate)
    _check_prompt(request, schema, candidate)
    route, parameters, translated = candidate.route, request.parameters, request
    if route is not None:
        parameters = _translated(route, request)
        translated = replace(request, parameters=parameters)
    try:
        found = find_inputs(rt, provider, schema, translated)
        if schema is not None:
            await rt.validators.check(schema, checkable(translated, found))
    except InvalidInput as error:
        if route is None:
            raise
        raise _in_our_terms(error, route) from error
    _check_price(rt, candidate)
    return Route(
        provider=candidate.provider, model=candidate.model, input=parameters, inputs=found
    )


async def _schema(provider: Provider, candidate: _Candidate) -> Schema | None:
    """Return the schema of a model, None if it is not known now.

    Raises:
        InvalidInput: There is no such model.
    """
    try:
        return await provider.schema(candidate.model)
    except NotFound as error:
        hint = (
            f"; it runs at {candidate.elsewhere}, not configured here"
            if candidate.elsewhere
            else ""
        )
        detail = f"{error}{hint}"
        field = FieldError(pointer=candidate.pointer, code="unknown_model", detail=detail)
        raise InvalidInput(
            "there is no such model", code="unknown_model", errors=[field]
        ) from error
    except ProviderError:
        return None  # unreachable: accepted now, checked by the provider at start


def _check_prompt(request: JobRequest, schema: Schema | None, candidate: _Candidate) -> None:
    """Refuse a request without a prompt for a model that needs one.

    Raises:
        InvalidInput: It does.
    """
    needed = candidate.needs_prompt or (needs_prompt(schema) and not candidate.spares_prompt)
    if needed and not request.prompt:
        raise InvalidInput("the model needs a prompt", errors=[NO_PROMPT])


def _check_price(rt: Runtime, candidate: _Candidate) -> None:
    """Refuse a model without a price, if the settings say so.

    Raises:
        InvalidInput: Its price is unknown.
    """
    known = rt.prices.find(candidate.provider, candidate.model) is not None
    if known or rt.settings.price_unknown == "accept":
        return
    detail = "has no known price here; the operator can add one to PRICES_FILE"
    field = FieldError(pointer=candidate.pointer, code="price_unknown", detail=detail)
    raise InvalidInput("the price of the model is unknown", code="price_unknown", errors=[field])


def _translated(route: CatalogueRoute, request: JobRequest) -> Mapping[str, Any]:
    """Return the parameters as the model of a route takes them.

    Raises:
        InvalidInput: It cannot express one of them, and the caller allows none to be left out.
    """
    parameters, missing = translate(route, request.parameters, prompt=request.prompt)
    if request.strict_parameters:
        refused = missing
    else:
        refused = tuple(name for name in missing if name in FILES)
    if refused:
        where = f"{route.model} at {route.provider}"
        raise InvalidInput(
            f"{where} cannot express {', '.join(refused)}",
            code="parameter_not_supported",
            errors=[
                FieldError(
                    f"/parameters/{name}",
                    "parameter_not_supported",
                    f"cannot be expressed by {where}; strict_parameters=false leaves it out",
                )
                for name in refused
            ],
        )
    return parameters


def _in_our_terms(error: InvalidInput, route: CatalogueRoute) -> InvalidInput:
    """Return an error that names parameters as the caller did."""
    ours = {
        theirs.split(".")[0].removesuffix("[]"): name for name, theirs in route.parameters.items()
    }

    return InvalidInput(
        str(error),
        code=error.code,
        errors=[replace(field, pointer=_renamed(field.pointer, ours)) for field in error.errors],
    )


def _renamed(pointer: str, ours: Mapping[str, str]) -> str:
    """Return a pointer into the parameters with our name of the one that it points at."""
    empty, place, name, *below = [*pointer.split("/", 3), "", ""][:4]
    if place != "parameters" or name not in ours:
        return pointer
    return "/".join([empty, place, ours[name], *filter(None, below)])
