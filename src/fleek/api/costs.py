"""Version 1: what requests will cost, what was spent, and what may be spent."""

import csv
import io
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Final

from fastapi import Query
from fastapi.requests import Request
from fastapi.responses import Response
from pydantic import BeforeValidator

from fleek.api.deps import RuntimeDep, actor, caller, queue_positions, runtime
from fleek.api.errors import present_fields, problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.api_keys import NAME
from fleek.domain.budgets import day_of
from fleek.domain.errors import (
    DatabaseUnavailable,
    FieldError,
    InsufficientScope,
    InvalidInput,
    NotFound,
    StorageFull,
    TooLarge,
    Unreadable,
    Unsupported,
)
from fleek.domain.money import NOTHING, read_usd, usd, usd_or_none
from fleek.domain.usage import GroupBy
from fleek.engine.budgets import change_budget, list_budgets
from fleek.engine.estimate import estimate
from fleek.schemas import JobCreate
from fleek.schemas.costs import (
    BudgetChange,
    BudgetRead,
    EstimateRead,
    UsageRead,
    UsageRow,
)
from fleek.schemas.read import RouteRead
from fleek.store.usage import read_usage

REFUSALS: Final = problems(Unreadable, TooLarge, Unsupported, DatabaseUnavailable, StorageFull)

router = strict_router("/api/v1", tag="costs")


@router.post(
    "/estimate",
    scope=Scope.JOBS_WRITE,
    operation_id="estimate_job",
    summary="Estimate the cost of a job",
    response_description="The estimate.",
    responses=REFUSALS,
)
async def estimate_job(body: JobCreate, request: Request) -> EstimateRead:
    """Return what a request of `/generate` will cost; it makes nothing and reserves nothing.

    A request that would be refused has its reasons in `problems`.
    """
    rt = runtime(request)
    found = await estimate(rt, body.to_request(caller(request)))
    position = None
    if found.job is not None:
        position = await queue_positions(request).position(rt, found.job)
    route = None
    if found.route is not None:
        provider, model = found.route
        route = RouteRead(provider=provider, model_name=model)
    return EstimateRead(
        cost=usd_or_none(found.cost),
        route=route,
        queue_position=position,
        problems=present_fields(found.problems),
    )


EVERY_TENANT: Final = "*"
CSV: Final = "text/csv"
USAGE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {CSV: {"schema": {"type": "string"}}}}
}


def _day(value: Any) -> str:
    try:
        found = date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else None
    except ValueError:
        found = None
    if found is None:
        raise ValueError("must be a day, such as 2026-11-29")
    return found.isoformat()


Day = Annotated[str | None, BeforeValidator(_day)]
FirstDay = Annotated[
    Day,
    Query(
        alias="from",
        description="The first day, in UTC; default: the first of the last day's month.",
        json_schema_extra={"format": "date"},
    ),
]
LastDay = Annotated[
    Day,
    Query(
        alias="to",
        description="The last day; default: today.",
        json_schema_extra={"format": "date"},
    ),
]
TenantQuery = Annotated[
    str | None,
    Query(
        pattern=rf"^(\*|{NAME.pattern})$",
        description="With the scope `admin`: another tenant, or `*` for all. Default: the caller's.",
    ),
]


@router.get(
    "/usage",
    scope=Scope.USAGE_READ,
    operation_id="get_usage",
    summary="What was spent",
    response_description="What was spent, as JSON or CSV.",
    response_model=UsageRead,
    responses=USAGE | problems(DatabaseUnavailable),
)
async def get_usage(
    request: Request,
    rt: RuntimeDep,
    *,
    first: FirstDay = None,
    last: LastDay = None,
    group_by: Annotated[
        GroupBy, Query(description="What it is added up by; `tenant` needs the scope `admin`.")
    ] = GroupBy.DAY,
    tenant: TenantQuery = None,
) -> UsageRead | Response:
    """Return what was spent, and is reserved, by the day on which it was reserved.

    Send `Accept: text/csv` for CSV.
    """
    last = last or day_of(rt.now())
    first = first or f"{last[:8]}01"
    if first > last:
        detail = "is later than to"
        field = FieldError("/from", "too_late", detail, location="query")
        raise InvalidInput(f"from: {detail}", errors=[field])
    rows = [
        UsageRow.of(usage)
        for usage in await read_usage(
            rt.db, group_by, tenant_id=_tenant(request, tenant), first=first, last=last
        )
    ]
    if CSV in request.headers.get("accept", ""):
        body = _csv(group_by, rows)
        return Response(body, media_type=f"{CSV}; charset=utf-8", headers={"Vary": "Accept"})
    total = sum((read_usd(row.cost) for row in rows), NOTHING)
    return UsageRead(first=first, last=last, group_by=group_by, cost=usd(total), rows=rows)


def _tenant(request: Request, wanted: str | None) -> str | None:
    """Return whose usage or budgets are asked for; None: those of all tenants.

    Raises:
        InsufficientScope: They are not the caller's.
    """
    who = caller(request)
    if wanted is None:
        return who.tenant_id
    if wanted != who.tenant_id and not who.may(Scope.ADMIN):
        raise InsufficientScope("this needs a key with the scope admin: it is of another tenant")
    return None if wanted == EVERY_TENANT else wanted


def _csv(group_by: GroupBy, rows: Sequence[UsageRow]) -> str:
    """Return usage as CSV. Names begin with a letter or a digit, so none is a formula."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow([group_by, "attempts", "unknown", "cost", "reserved"])
    writer.writerows(
        [row.name or "", row.attempts, row.unknown, row.cost, row.reserved] for row in rows
    )
    return written.getvalue()


@router.get(
    "/budgets",
    scope=Scope.USAGE_READ,
    operation_id="list_budgets",
    summary="List budgets",
    response_description="The budgets, with what is spent in their current periods.",
    responses=problems(DatabaseUnavailable),
)
async def get_budgets(
    request: Request, rt: RuntimeDep, tenant: TenantQuery = None
) -> list[BudgetRead]:
    """Return the budgets of the caller's tenant and its keys."""
    found = await list_budgets(rt, tenant_id=_tenant(request, tenant))
    return [BudgetRead.of(spent) for spent in found]


@router.post(
    "/budgets",
    scope=Scope.ADMIN,
    operation_id="set_budget",
    summary="Set or remove a budget",
    response_description="The budget; null: it was removed.",
    responses=problems(Unreadable, NotFound, TooLarge, Unsupported, DatabaseUnavailable),
)
async def set_budget(body: BudgetChange, request: Request, rt: RuntimeDep) -> BudgetRead | None:
    """Limit what a key, a tenant or the whole service may spend in a day, a month or in all.

    What was spent in the current period and is reserved already counts. A job without room in a budget is
    refused with 402; a further attempt of an accepted one waits.
    """
    changed = await change_budget(
        rt,
        tenant_id=body.tenant,
        key_id=body.key,
        period=body.period,
        limit=body.micros,
        by=actor(request),
    )
    return None if changed is None else BudgetRead.of(changed)
