"""Version 1: tenants, for operators: what each may have, and whether it may do anything at all."""

from typing import Annotated

from fastapi import Path, Query
from fastapi.requests import Request

from fleek.api.deps import RuntimeDep, actor, caller
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.api_keys import NAME
from fleek.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    NotFound,
    TooLarge,
    Unreadable,
    Unsupported,
)
from fleek.engine.tenants import change_tenant
from fleek.schemas.tenants import TenantPatch, TenantRead
from fleek.store import tenants

router = strict_router("/api/v1", tag="keys")

TenantId = Annotated[str, Path(pattern=f"^{NAME.pattern}$", description="Id of the tenant.")]


@router.get(
    "/tenants",
    scope=Scope.ADMIN,
    operation_id="list_tenants",
    summary="List tenants",
    response_description="The tenants.",
    responses=problems(DatabaseUnavailable),
)
async def list_tenants(
    rt: RuntimeDep,
    after: Annotated[
        str | None, Query(pattern=f"^{NAME.pattern}$", description="Only those behind this id.")
    ] = None,
) -> list[TenantRead]:
    """Return up to 1,000 tenants in the order of their ids."""
    return [
        TenantRead.of(tenant) for tenant in await tenants.list_tenants(rt.db, after=after or "")
    ]


@router.get(
    "/tenants/{tenant_id}",
    scope=Scope.ADMIN,
    operation_id="get_tenant",
    summary="Get a tenant",
    response_description="The tenant.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def get_tenant(tenant_id: TenantId, rt: RuntimeDep) -> TenantRead:
    """Return a tenant with the limits that differ from the settings."""
    found = await tenants.find(rt.db, tenant_id)
    if found is None:
        raise NotFound("there is no such tenant")
    return TenantRead.of(found)


@router.patch(
    "/tenants/{tenant_id}",
    scope=Scope.ADMIN,
    operation_id="change_tenant",
    summary="Limit, disable or enable a tenant",
    response_description="The tenant.",
    responses=problems(Unreadable, NotFound, Conflict, TooLarge, Unsupported, DatabaseUnavailable),
)
async def patch_tenant(
    body: TenantPatch, tenant_id: TenantId, rt: RuntimeDep, request: Request
) -> TenantRead:
    """Change what is given; it takes effect within a second on every process.

    The keys of a disabled tenant are refused with 403, and its open event streams end. None of its jobs
    is started; nothing is removed, and running predictions are collected. It goes on once it is enabled.
    """
    if body.disabled and tenant_id == caller(request).tenant_id:
        raise Conflict(
            "this key is of the tenant: nobody could enable it again with it", code="own_tenant"
        )
    changed = await change_tenant(
        rt,
        tenant_id,
        limits=body.changed_limits(),
        enabled=body.enabled,
        by=actor(request),
    )
    return TenantRead.of(changed)
