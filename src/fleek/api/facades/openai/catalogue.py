"""Routes of models."""

from collections.abc import Mapping
from typing import Any

from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response

from fleek.api.deps import runtime
from fleek.api.facades.models import offered
from fleek.api.facades.openai.errors import unknown_model
from fleek.api.facades.openai.images import PREFIX
from fleek.api.facades.openai.options import find_target
from fleek.api.facades.routes import FacadeRouter
from fleek.domain.access import Scope
from fleek.engine.runtime import Runtime

router = FacadeRouter(PREFIX)


@router.route("GET", "/models", scope=Scope.JOBS_READ)
async def list_all(request: Request) -> Response:
    """Return the models: aliases, those of the catalogue that can be run, and those of providers."""
    owners = await _owners(runtime(request))
    data = [_present(name, owner) for name, owner in owners.items()]
    return JSONResponse({"object": "list", "data": data})


@router.route("GET", "/models/{name:path}", scope=Scope.JOBS_READ)
async def get(name: str, request: Request) -> Response:
    """Return a model."""
    rt = runtime(request)
    owner = (await _owners(rt)).get(name)
    if owner is None:
        owner = (await find_target(rt, name)).provider
    if owner is None:
        raise unknown_model(name)
    return JSONResponse(_present(name, owner))


async def _owners(rt: Runtime) -> Mapping[str, str]:
    """Return the names of all models that are known, each with its provider."""
    owners: dict[str, str] = {}
    for entry in rt.catalogue.models.values():
        open_ones = [route.provider for route in entry.routes if route.provider in rt.providers]
        if open_ones:
            owners |= dict.fromkeys((entry.name, *entry.aliases), open_ones[0])
    for provider, model in await offered(rt):
        owners.setdefault(model.name, provider)
    for alias, name in rt.catalogue.aliases.items():
        owners.setdefault(alias, owners.get(name, "fleek"))
    return owners


def _present(name: str, owner: str) -> Mapping[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
