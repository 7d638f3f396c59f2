"""Version 1: what a request will cost."""

from typing import Final

from fastapi.requests import Request

from fleek.api.deps import caller, queue_positions, runtime
from fleek.api.errors import present_fields, problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import (
    DatabaseUnavailable,
    StorageFull,
    TooLarge,
    Unreadable,
    Unsupported,
)
from fleek.domain.money import usd_or_none
from fleek.engine.estimate import estimate
from fleek.schemas import JobCreate
from fleek.schemas.costs import EstimateRead, RouteRead

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
