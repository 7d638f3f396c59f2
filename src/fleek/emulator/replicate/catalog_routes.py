"""Read-only routes: models, versions, collections, hardware and the account."""

import asyncio
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.replicate.models import (
    BY_NAME,
    CREATED,
    OFFERED,
    Model,
    any_model,
    describe,
    describe_version,
)
from fleek.emulator.responses import answer, entry_of, failed, missing

HARDWARE: Final = (
    {"name": "CPU", "sku": "cpu"},
    {"name": "Nvidia T4 GPU", "sku": "gpu-t4"},
    {"name": "Nvidia L40S GPU", "sku": "gpu-l40s"},
    {"name": "Nvidia A100 (80GB) GPU", "sku": "gpu-a100-large"},
    {"name": "Nvidia H100 GPU", "sku": "gpu-h100"},
)
COLLECTIONS: Final = {
    "text-to-image": "Generate images",
    "language": "Language models",
    "audio": "Music and speech",
    "video": "Generate videos",
}


def routes() -> list[Route]:
    """Return the read-only routes."""
    model = "/v1/models/{owner}/{name}"
    return [
        Route("/v1/models", _models, methods=["GET", "QUERY"]),
        Route(model, _model, methods=["GET"]),
        Route(f"{model}/versions", _versions, methods=["GET"]),
        Route(f"{model}/versions/{{id}}", _version, methods=["GET"]),
        Route("/v1/collections", _collections, methods=["GET"]),
        Route("/v1/collections/{slug}", _collection, methods=["GET"]),
        Route("/v1/deployments", _empty_page, methods=["GET"]),
        Route("/v1/trainings", _empty_page, methods=["GET"]),
        Route("/v1/hardware", _hardware, methods=["GET"]),
        Route("/v1/account", _account, methods=["GET"]),
        Route("/v1/webhooks/default/secret", _secret, methods=["GET"]),
    ]


def _page(results: list[Any]) -> Response:
    return answer({"previous": None, "next": None, "results": results})


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


async def _models(request: Request) -> ASGIApp:
    sought = ""
    if request.method == "QUERY":
        sought = (await request.body()).decode(errors="replace").strip().strip('"').lower()
    matches = [model for model in OFFERED if sought in f"{model.name} {model.what}".lower()]
    return _page([describe(model, _base(request)) for model in matches])


async def _requested_model(request: Request) -> Model | ASGIApp:
    """Return the model in the path, or the response if there is none."""
    account: Account = request.app.state.account
    name = "{owner}/{name}".format(**request.path_params)
    faults = account.sampler.draw(account.plan, "model", model=name)
    entry_of(request.scope).faults += [*faults]
    if "model_slow" in faults:
        await asyncio.sleep(float(faults["model_slow"]))
    if "model_5xx" in faults:
        return failed(faults["model_5xx"])
    if name in BY_NAME:
        return BY_NAME[name]
    return any_model(name) if account.plan.any_model else missing()


async def _model(request: Request) -> ASGIApp:
    model = await _requested_model(request)
    return answer(describe(model, _base(request))) if isinstance(model, Model) else model


async def _versions(request: Request) -> ASGIApp:
    model = await _requested_model(request)
    return _page([describe_version(model)]) if isinstance(model, Model) else model


async def _version(request: Request) -> ASGIApp:
    model = await _requested_model(request)
    if not isinstance(model, Model):
        return model
    version_id = request.path_params["id"]
    if version_id != model.version and model.name in BY_NAME:
        return missing()
    return answer(describe_version(model) | {"id": version_id})


async def _collections(_: Request) -> ASGIApp:
    return _page([_collection_summary(slug) for slug in COLLECTIONS])


async def _collection(request: Request) -> ASGIApp:
    slug = request.path_params["slug"]
    if slug not in COLLECTIONS:
        return missing()
    models = [describe(model, _base(request)) for model in OFFERED if slug in model.tags]
    return answer(_collection_summary(slug) | {"models": models})


def _collection_summary(slug: str) -> dict[str, str]:
    return {"name": slug.replace("-", " ").title(), "slug": slug, "description": COLLECTIONS[slug]}


async def _empty_page(_: Request) -> ASGIApp:
    return _page([])


async def _hardware(_: Request) -> ASGIApp:
    return answer(list(HARDWARE))


async def _account(_: Request) -> ASGIApp:
    return answer(
        {
            "type": "user",
            "username": "emulator",
            "name": "Emulator",
            "github_url": None,
            "avatar_url": None,
            "created_at": CREATED,
        }
    )


async def _secret(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    return answer({"key": account.secret})
