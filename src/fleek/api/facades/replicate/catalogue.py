"""Routes of models and their versions, and what Replicate has besides."""

from typing import Annotated, Any, Final

from fastapi import Query
from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response

from fleek.api.deps import caller, runtime
from fleek.api.facades.models import find_model, offered, several_outputs
from fleek.api.facades.replicate.prediction import PREFIX, version_id
from fleek.api.facades.replicate.predictions import page_of
from fleek.api.facades.routes import FacadeRouter
from fleek.api.request_body import read_body
from fleek.domain.access import ANY_SCOPE, Scope
from fleek.domain.catalogue import PROMPT_NOTE
from fleek.domain.errors import NotFound
from fleek.domain.job import MODEL_NAME, ModelName
from fleek.engine.runtime import Runtime
from fleek.engine.webhooks import signing_secrets
from fleek.providers.base import Model, Schema, needs_prompt

COG_VERSION: Final = "0.16.0"  # clients compare it: from 0.3.9 on, a schema has its output
SINCE: Final = "2026-01-01T00:00:00.000000Z"
URI: Final = {"type": "string", "format": "uri"}
TEXTS: Final = {
    "type": "array",
    "items": {"type": "string"},
    "x-cog-array-type": "iterator",
    "x-cog-array-display": "concatenate",
}
PROMPT: Final = {"type": "string", "title": "Prompt", "description": "What to make.", "x-order": 0}
LONGEST_SEARCH: Final = 1000  # bytes

router = FacadeRouter(PREFIX, "/replicate")


@router.route("GET", "/models", scope=Scope.JOBS_READ)
async def list_models(
    request: Request,
    cursor: Annotated[str | None, Query()] = None,  # noqa: ARG001 - there is one page
    sort_by: Annotated[str | None, Query()] = None,  # noqa: ARG001 - they have one order
    sort_direction: Annotated[str | None, Query()] = None,  # noqa: ARG001 - likewise
) -> Response:
    """Return the models that providers list."""
    rt = runtime(request)
    return JSONResponse(page_of([_described(rt, model) for _, model in await offered(rt)]))


@router.route("QUERY", "/models", scope=Scope.JOBS_READ)
async def search(request: Request) -> Response:
    """Return the listed models whose name or description has these words; the body is plain text."""
    rt, data = runtime(request), await read_body(request, LONGEST_SEARCH)
    words = data.decode("utf-8", "replace").strip().strip('"').lower().split()
    found = [
        _described(rt, model)
        for _, model in await offered(rt)
        if all(word in f"{model.name} {model.description}".lower() for word in words)
    ]
    return JSONResponse(page_of(found))


@router.route("GET", "/models/{owner}/{name}", scope=Scope.JOBS_READ)
async def get_model(owner: str, name: str, request: Request) -> Response:
    """Return a model with its version."""
    rt = runtime(request)
    return JSONResponse(_described(rt, await _known(rt, owner, name)))


@router.route("GET", "/models/{owner}/{name}/versions", scope=Scope.JOBS_READ)
async def list_versions(owner: str, name: str, request: Request) -> Response:
    """Return the version of a model: there is one."""
    return JSONResponse(page_of([_version(await _known(runtime(request), owner, name))]))


@router.route("GET", "/models/{owner}/{name}/versions/{version}", scope=Scope.JOBS_READ)
async def get_version(owner: str, name: str, version: str, request: Request) -> Response:
    """Return a version of a model: ours, or one of the provider's own."""
    known = await _known(runtime(request), owner, name)
    if version == version_id(known.name):
        return JSONResponse(_version(known))
    of_provider = await _known(runtime(request), owner, f"{name}:{version}")
    return JSONResponse(_version(of_provider) | {"id": version})


@router.route("GET", "/models/{owner}/{name}/examples", scope=Scope.JOBS_READ)
@router.route("GET", "/trainings", scope=Scope.JOBS_READ)
@router.route("GET", "/deployments", scope=Scope.JOBS_READ)
@router.route("GET", "/collections", scope=Scope.JOBS_READ)
async def list_nothing() -> Response:
    """Return an empty page: there are none of these here."""
    return JSONResponse(page_of([]))


@router.route("GET", "/hardware", scope=Scope.JOBS_READ)
async def list_hardware() -> Response:
    """Return no hardware: providers choose their own."""
    return JSONResponse([])


@router.route("GET", "/account", scope=ANY_SCOPE)
async def get_account(request: Request) -> Response:
    """Return the tenant of the key."""
    tenant_id = caller(request).tenant_id
    return JSONResponse({"type": "organization", "username": tenant_id, "name": tenant_id})


@router.route("GET", "/webhooks/default/secret", scope=Scope.WEBHOOKS_READ)
async def get_secret(request: Request) -> Response:
    """Return the secret that signs the webhooks of predictions: the tenant's own."""
    secrets = await signing_secrets(runtime(request), tenant_id=caller(request).tenant_id)
    return JSONResponse({"key": secrets[0]}, headers={"Cache-Control": "no-store"})


async def _known(rt: Runtime, owner: str, name: str) -> Model:
    """Return a model of the first provider that has it.

    Raises:
        NotFound: None has it.
    """
    wanted = ModelName(f"{owner}/{name}")
    if MODEL_NAME.fullmatch(wanted) is None:
        raise NotFound("no such model")
    provider, schema = await find_model(rt, wanted)
    if provider is None:
        raise NotFound("no such model")
    for listed_by, model in await offered(rt):
        if (listed_by, model.name) == (provider, wanted):
            return Model(
                name=wanted, description=model.description, schema=schema, output=model.output
            )
    return Model(name=wanted, description="", schema=schema)


def _described(rt: Runtime, model: Model) -> dict[str, Any]:
    owner, _, name = model.name.partition("/")
    return {
        "url": f"{rt.settings.public_base}/api/v1/models/{model.name}",
        "owner": owner,
        "name": name or owner,
        "description": model.description,
        "visibility": "public",
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": _version(model),
    }


def _version(model: Model) -> dict[str, Any]:
    return {
        "id": version_id(model.name),
        "created_at": SINCE,
        "cog_version": COG_VERSION,
        "openapi_schema": _schema(model),
    }


def _schema(model: Model) -> dict[str, Any]:
    """Return what tools read of a model: the schemas of its input and its output."""
    schema: Schema = model.schema or {"properties": {}}
    given = schema.get("properties")
    properties = given if isinstance(given, dict) else {}
    has_prompt = schema.get(PROMPT_NOTE) != "none"
    required = [*(["prompt"] if needs_prompt(schema) else []), *schema.get("required", [])]
    made_input = {
        "type": "object",
        "title": "Input",
        "required": required,
        "properties": {**({"prompt": PROMPT} if has_prompt else {}), **properties},
    }
    if model.output == "text":
        output: dict[str, Any] = TEXTS
    elif several_outputs(schema) == "list":
        output = {"type": "array", "items": URI}
    else:
        output = URI
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": {},
        "components": {"schemas": {"Input": made_input, "Output": {**output, "title": "Output"}}},
    }
