"""Version 1: API keys, for operators.

A key with the scope `admin` belongs to an operator of the whole installation: it manages the keys of all
tenants. Nothing else can, so no key gives scopes that it does not have.
"""

from typing import Annotated, Final

from fastapi import Path, Query, Response
from fastapi.requests import Request

from fleek.api.deps import RuntimeDep, actor, caller
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import ANY_SCOPE, Scope
from fleek.domain.api_keys import ID_LENGTH, NAME, KeyId
from fleek.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    FieldError,
    InvalidInput,
    NotFound,
    TooLarge,
    Unreadable,
    Unsupported,
)
from fleek.engine.access import create_key, note_foreign_keys, revoke_key
from fleek.engine.tenants import limits_of
from fleek.schemas.keys import CallerRead, KeyCreate, KeyCreated, KeyRead
from fleek.store import api_keys

router = strict_router("/api/v1", tag="keys")

NEVER_STORED: Final = {"Cache-Control": "no-store"}


@router.get(
    "/me",
    scope=ANY_SCOPE,
    operation_id="get_caller",
    summary="Who calls",
    response_description="The tenant, the key and its scopes.",
    responses=problems(DatabaseUnavailable),
)
async def get_caller(request: Request, rt: RuntimeDep) -> CallerRead:
    """Return what the service knows of the caller, and what it can do."""
    who = caller(request)
    return CallerRead.of(who, await limits_of(rt, who.tenant_id))


@router.post(
    "/keys",
    scope=Scope.ADMIN,
    status_code=201,
    operation_id="create_key",
    summary="Create an API key",
    response_description="The key. Its secret is shown this once.",
    responses=problems(Unreadable, Conflict, TooLarge, Unsupported, DatabaseUnavailable),
)
async def create_api_key(
    body: KeyCreate, rt: RuntimeDep, request: Request, response: Response
) -> KeyCreated:
    """Create a key, and its tenant if that is new."""
    who = caller(request)
    if body.expires_at is not None and body.expires_at <= rt.now():
        detail = "must be later than now"
        raise InvalidInput(detail, errors=[FieldError("/expires_at", "too_early", detail)])
    key, secret = await create_key(
        rt,
        name=body.name,
        tenant_id=body.tenant or who.tenant_id,
        scopes=body.scopes,
        expires_at=body.expires_at,
        by=actor(request),
    )
    response.headers.update(NEVER_STORED)
    return KeyCreated.with_secret(key, secret)


@router.get(
    "/keys",
    scope=Scope.ADMIN,
    operation_id="list_keys",
    summary="List API keys",
    response_description="The keys, without their secrets.",
    responses=problems(DatabaseUnavailable),
)
async def list_api_keys(
    rt: RuntimeDep,
    request: Request,
    tenant: Annotated[
        str | None, Query(pattern=f"^{NAME.pattern}$", description="Only keys of this tenant.")
    ] = None,
) -> list[KeyRead]:
    """Return the latest 1,000 keys, newest first, with those that were revoked."""
    found = await api_keys.list_keys(rt.db, tenant_id=tenant)
    await note_foreign_keys(rt, found, caller(request), by=actor(request))
    return [KeyRead.of(key) for key in found]


@router.delete(
    "/keys/{key_id}",
    scope=Scope.ADMIN,
    operation_id="revoke_key",
    summary="Revoke an API key",
    response_description="The revoked key.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def revoke_api_key(
    key_id: Annotated[
        str, Path(pattern=f"^[a-z2-7]{{{ID_LENGTH}}}$", description="Id of the key.")
    ],
    rt: RuntimeDep,
    request: Request,
) -> KeyRead:
    """Make a key invalid for good, within a second on every process.

    Its jobs go on. To revoke it again has no effect.
    """
    return KeyRead.of(await revoke_key(rt, KeyId(key_id), by=actor(request)))
