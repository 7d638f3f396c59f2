"""The flat routes for simple clients: the same jobs in a flat form."""

from fastapi import Response
from fastapi.requests import Request

from fleek.api.deps import JobIdPath, caller, flat_addresses, runtime
from fleek.api.direct import DirectRoute, json_response
from fleek.api.errors import problems
from fleek.api.idempotency import REPLAYED, IdempotencyKeyHeader, identify, view_of
from fleek.api.routing import router as strict_router
from fleek.api.waiting import WAITED, PreferHeader, wait_for_end
from fleek.domain.access import Scope
from fleek.domain.errors import (
    BudgetExceeded,
    DatabaseUnavailable,
    Gone,
    NotFound,
    StorageFull,
    TooLarge,
    TooMany,
    Unreadable,
    Unsupported,
)
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit_once
from fleek.schemas import FlatJob, JobCreate
from fleek.store import jobs
from fleek.store.jobs import JobView

router = strict_router(tag="flat")


@router.post(
    "/generate",
    scope=Scope.JOBS_WRITE,
    kind=DirectRoute,
    response_model=FlatJob,
    operation_id="create_flat_job",
    summary="Create a job (flat)",
    response_description="The accepted job.",
    responses={200: {"headers": {**WAITED, **REPLAYED}}}
    | problems(
        *(Unreadable, BudgetExceeded, Gone, TooLarge, Unsupported, TooMany),
        *(DatabaseUnavailable, StorageFull),
    ),
)
async def create_flat_job(
    body: JobCreate,
    request: Request,
    _key: IdempotencyKeyHeader = None,
    _prefer: PreferHeader = None,
) -> Response:
    """Accept a job. Poll `/status/{job_id}` for its result."""
    rt = runtime(request)
    wanted = body.to_request(caller(request))
    accepted = await submit_once(rt, wanted, identify(request, wanted))
    headers: dict[str, str] = {}
    view = await wait_for_end(request, headers, await view_of(request, headers, accepted))
    return json_response(_flat(view, rt), headers=headers)


@router.get(
    "/status/{job_id}",
    scope=Scope.JOBS_READ,
    kind=DirectRoute,
    response_model=FlatJob,
    operation_id="get_flat_job",
    summary="Get a job (flat)",
    response_description="The job.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def get_flat_job(job_id: JobIdPath, request: Request) -> Response:
    """Return the current state of a job; `pending` is called `queued` here."""
    rt = runtime(request)
    view = await jobs.get(rt.db, job_id, tenant_id=caller(request).tenant_id)
    return json_response(_flat(view, rt))


def _flat(view: JobView, rt: Runtime) -> bytes:
    return FlatJob.from_job(view.job, view.media, flat_addresses(rt)).model_dump_json().encode()
