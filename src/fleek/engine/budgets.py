"""Set and remove budgets."""

from typing import TYPE_CHECKING

from fleek.domain.api_keys import KeyId
from fleek.domain.audit import COMMAND_LINE, Action, Actor, entry
from fleek.domain.budgets import Budget, Period, Scope, Spent, day_of
from fleek.domain.errors import NotFound
from fleek.domain.job import DEFAULT_TENANT
from fleek.domain.money import Micros, usd
from fleek.engine.access import CONFIGURED
from fleek.store import api_keys, spend, tenants

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime


async def list_budgets(rt: "Runtime", *, tenant_id: str | None) -> list[Spent]:
    """Return the budgets of a tenant and its keys, with what is spent now; None: all budgets."""
    return await spend.list_spent(rt.db, tenant_id=tenant_id, day=day_of(rt.now()))


async def change_budget(
    rt: "Runtime",
    *,
    tenant_id: str | None,
    key_id: str | None,
    period: Period,
    limit: Micros | None,
    by: Actor = COMMAND_LINE,
) -> Spent | None:
    """Set a budget, or remove it if `limit` is None; returns it with what is spent now.

    Of a key, whosever it is, of a tenant, or without both of the whole service. What was spent and is
    reserved already counts.

    Raises:
        NotFound: There is no such key, tenant or budget.
    """
    scope = await _scope(rt, tenant_id, key_id)
    budget = Budget(scope=scope, period=period, limit=limit or Micros(0))
    line = entry(
        Action.BUDGET_REMOVED if limit is None else Action.BUDGET_SET,
        scope.key_id or scope.tenant_id or "service",
        by=by,
        tenant_id=scope.tenant_id or DEFAULT_TENANT,
        at=rt.now(),
        period=period.value,
        **({} if limit is None else {"limit": usd(limit)}),
    )
    if limit is None:
        await spend.remove_budget(rt.db, budget, line)
        return None
    await spend.set_budget(rt.db, budget, line)
    rt.wakeups.notify("admit")
    found = await list_budgets(rt, tenant_id=scope.tenant_id)
    return next((spent for spent in found if spent.budget == budget), None)


async def _scope(rt: "Runtime", tenant_id: str | None, key_id: str | None) -> Scope:
    if key_id is not None:
        return Scope(await _tenant_of(rt, tenant_id, key_id), key_id)
    if tenant_id is None:
        return Scope()
    if tenant_id != DEFAULT_TENANT and await tenants.find(rt.db, tenant_id) is None:
        raise NotFound("there is no such tenant")
    return Scope(tenant_id)


async def _tenant_of(rt: "Runtime", tenant_id: str | None, key_id: str) -> str:
    """Return whose key it is; keys of the settings are named as in jobs and lists."""
    if key_id.removeprefix(CONFIGURED) in rt.settings.configured_keys:
        owner = DEFAULT_TENANT
    else:
        stored = await api_keys.find(rt.db, KeyId(key_id))
        if stored is None:
            raise NotFound("there is no such key")
        owner = stored.key.tenant_id
    if tenant_id not in {None, owner}:
        raise NotFound("there is no such key of this tenant")
    return owner
