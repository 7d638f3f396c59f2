"""Tenants: what each may have, and whether it may do anything at all.

A tenant is read from the database at most twice a second and process, so a change takes effect within a
second; only the commit that starts a job reads it at once.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from fleek.domain.audit import COMMAND_LINE, Action, Actor, AuditEntry, entry
from fleek.domain.tenant import Tenant, TenantLimits
from fleek.engine.access import FRESH_SECONDS, TimedCache
from fleek.store import tenants

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime


class TenantCache:
    """What one process knows of tenants."""

    def __init__(self) -> None:
        self.tenants = TimedCache[Tenant | None](seconds=FRESH_SECONDS)


async def find_tenant(rt: "Runtime", tenant_id: str) -> Tenant | None:
    """Return a tenant; None: there is no row of it, so it is enabled and has no limits of its own.

    Raises:
        DatabaseUnavailable: It is not known.
    """
    began = rt.steady()
    cached = rt.tenants.tenants.get(tenant_id, now=began)
    if cached is not None:
        return cached[0]
    found = await tenants.find(rt.db, tenant_id)
    rt.tenants.tenants.put(tenant_id, found, now=began)
    return found


async def limits_of(rt: "Runtime", tenant_id: str) -> TenantLimits:
    """Return what a tenant may have: its own limits, and those of the settings."""
    return effective_limits(rt, await find_tenant(rt, tenant_id))


def effective_limits(rt: "Runtime", tenant: Tenant | None) -> TenantLimits:
    """Return the limits that apply to a tenant."""
    defaults = rt.settings.tenant_limits
    return defaults if tenant is None else tenant.limits.over(defaults)


async def change_tenant(
    rt: "Runtime",
    tenant_id: str,
    *,
    limits: Mapping[str, int | None] | None = None,
    enabled: bool | None = None,
    by: Actor = COMMAND_LINE,
) -> Tenant:
    """Change limits of a tenant, and disable or enable it; what is not given stays.

    Of `limits`, None is the setting. The keys of a disabled tenant are refused, and none of its jobs is
    started, until it is enabled again; nothing is removed.

    Raises:
        NotFound: There is none.
    """

    def decide(before: Tenant) -> tuple[Tenant, list[AuditEntry]]:
        after = replace(before, limits=replace(before.limits, **(limits or {})))
        if enabled is not None and enabled != before.enabled:
            after = replace(after, disabled_at=None if enabled else rt.now())
        return after, _lines(rt, before, after, by)

    changed = await tenants.change(rt.db, tenant_id, decide)
    rt.tenants.tenants.put(tenant_id, changed, now=rt.steady())
    rt.wakeups.notify("admit")
    return changed


def _lines(rt: "Runtime", before: Tenant, after: Tenant, by: Actor) -> list[AuditEntry]:
    def line(action: Action, **detail: Any) -> AuditEntry:
        return entry(action, after.id, by=by, tenant_id=after.id, at=rt.now(), **detail)

    lines = []
    if after.limits != before.limits:
        lines.append(
            line(Action.TENANT_LIMITED, before=asdict(before.limits), after=asdict(after.limits))
        )
    if after.enabled != before.enabled:
        lines.append(line(Action.TENANT_ENABLED if after.enabled else Action.TENANT_DISABLED))
    return lines
