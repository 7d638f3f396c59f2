"""Version 1: create, read, change, cancel, purge, retry and collect jobs."""

from typing import Annotated, Any, Final

from fastapi import Query, Response
from fastapi.requests import Request

from fleek.api.deps import (
    JobIdPath,
    RuntimeDep,
    StrictBool,
    actor,
    addresses,
    caller,
    link,
    location_of,
    own_addresses,
    queue_positions,
    runtime,
)
from fleek.api.direct import DirectRoute, json_response
from fleek.api.errors import problems
from fleek.api.idempotency import (
    REPLAYED,
    IdempotencyKeyHeader,
    identify,
    identify_retry,
    view_of,
)
from fleek.api.routing import router as strict_router
from fleek.api.waiting import WAITED, PreferHeader, wait_for_end
from fleek.domain.access import Scope
from fleek.domain.errors import (
    BudgetExceeded,
    Conflict,
    DatabaseUnavailable,
    Gone,
    NotFound,
    StorageFull,
    TooLarge,
    TooMany,
    Unreadable,
    Unsupported,
)
from fleek.engine.cancel import cancel
from fleek.engine.edit import edit
from fleek.engine.purge import purge
from fleek.engine.recollect import recollect
from fleek.engine.runtime import Runtime
from fleek.engine.submit import retry_once, submit_once
from fleek.schemas import JobCancelled, JobCreate, JobPatch, JobRead, job_json
from fleek.store import inputs, jobs
from fleek.store.jobs import JobView

CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {
        "headers": {
            **location_of("job"),
            **WAITED,
            **REPLAYED,
        }
    }
}
RETRIED: Final[dict[int | str, dict[str, Any]]] = {
    **CREATED,
    200: {"model": JobRead, "description": "The existing retry.", **CREATED[201]},
}

router = strict_router("/api/v1", tag="jobs")


@router.post(
    "/generate",
    scope=Scope.JOBS_WRITE,
    kind=DirectRoute,
    response_model=JobRead,
    status_code=201,
    operation_id="create_job",
    summary="Create a job",
    response_description="The accepted job.",
    responses=CREATED
    | problems(
        *(Unreadable, BudgetExceeded, Gone, TooLarge, Unsupported, TooMany),
        *(DatabaseUnavailable, StorageFull),
    ),
)
async def create_job(
    body: JobCreate,
    request: Request,
    _key: IdempotencyKeyHeader = None,
    _prefer: PreferHeader = None,
) -> Response:
    """Accept a job. It is stored durably before the response; poll `Location` for its result.

    Send an `Idempotency-Key` if the request may have to be repeated: it creates one job then.
    """
    rt = runtime(request)
    wanted = body.to_request(caller(request))
    accepted = await submit_once(rt, wanted, identify(request, wanted))
    headers: dict[str, str] = {}
    view = await view_of(request, headers, accepted)
    view = await wait_for_end(request, headers, view)
    headers["Location"] = _address(view, rt)
    document = job_json(view.job, view.media, own_addresses(request))
    return json_response(document, status=201, headers=headers)


@router.get(
    "/status/{job_id}",
    scope=Scope.JOBS_READ,
    kind=DirectRoute,
    response_model=JobRead,
    operation_id="get_job_status",
    summary="Get a job",
    response_description="The job.",
    responses=problems(NotFound, DatabaseUnavailable),
)
@router.get(
    "/jobs/{job_id}",
    scope=Scope.JOBS_READ,
    kind=DirectRoute,
    response_model=JobRead,
    operation_id="get_job",
    summary="Get a job",
    response_description="The job.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def get_job(job_id: JobIdPath, request: Request) -> Response:
    """Return the current state of a job. Poll until `status` is final."""
    rt = runtime(request)
    view = await jobs.get(rt.db, job_id, tenant_id=caller(request).tenant_id)
    position = await queue_positions(request).position(rt, view.job)
    document = job_json(view.job, view.media, own_addresses(request), queue_position=position)
    return json_response(document)


@router.patch(
    "/jobs/{job_id}",
    scope=Scope.JOBS_WRITE,
    operation_id="update_job",
    summary="Change favourite, tags and metadata",
    response_description="The job.",
    responses=problems(NotFound, Unreadable, TooLarge, Unsupported, DatabaseUnavailable),
)
async def update_job(
    job_id: JobIdPath, body: JobPatch, rt: RuntimeDep, request: Request
) -> JobRead:
    """Change what belongs to the caller alone, whatever the job's state. What is not named stays."""
    tenant_id = caller(request).tenant_id
    await edit(rt, job_id, body.changes(), tenant_id=tenant_id)
    view = await jobs.get(rt.db, job_id, tenant_id=tenant_id)
    return JobRead.from_job(view.job, view.media, addresses(rt))


@router.post(
    "/jobs/{job_id}/cancel",
    scope=Scope.JOBS_WRITE,
    operation_id="cancel_job",
    summary="Cancel a job",
    response_description="The cancelled job.",
    responses=problems(NotFound, Conflict, DatabaseUnavailable),
)
async def cancel_job(job_id: JobIdPath, rt: RuntimeDep, request: Request) -> JobCancelled:
    """Cancel a job that has not ended. Cancelling it again has no effect."""
    job, by_this_call = await cancel(rt, job_id, tenant_id=caller(request).tenant_id)
    message = "Job cancelled" if by_this_call else "Job was cancelled already"
    return JobCancelled(message=message, job=JobRead.from_job(job, (), addresses(rt)))


@router.delete(
    "/jobs/{job_id}",
    scope=Scope.JOBS_WRITE,
    operation_id="delete_job",
    summary="Cancel or purge a job",
    response_description="The cancelled or purged job.",
    responses=problems(NotFound, Conflict, DatabaseUnavailable),
)
async def delete_job(
    job_id: JobIdPath,
    rt: RuntimeDep,
    request: Request,
    *,
    wanted: Annotated[
        bool,
        Query(
            alias="purge",
            description="`true`: remove the job's files and metadata document. A job that has not "
            "ended is cancelled first. The job itself can still be read, with its prompt, its "
            "parameters and the caller's metadata.",
        ),
        StrictBool,
    ] = False,
) -> JobCancelled:
    """Cancel a job that has not ended; with `purge=true`, remove its files for good.

    After the response, its files and its metadata document return 410. They are removed from the
    storage soon after, or as soon as the job's prediction and the jobs that take its files as inputs
    have ended, and those that have reused them are purged; `message` says so.
    """
    if not wanted:
        return await cancel_job(job_id, rt, request)
    job, by_this_call = await purge(
        rt, job_id, tenant_id=caller(request).tenant_id, by=actor(request)
    )
    message = "Job purged" if by_this_call else "Job was purged already"
    if await inputs.jobs_in_use(rt.db, [job.id]):
        message += "; its files are kept for jobs that take them as inputs, or have reused them"
    return JobCancelled(message=message, job=JobRead.from_job(job, (), addresses(rt)))


@router.post(
    "/jobs/{job_id}/retry",
    scope=Scope.JOBS_WRITE,
    status_code=201,
    operation_id="retry_job",
    summary="Retry a job",
    response_description="The new job.",
    responses=RETRIED
    | problems(
        *(Unreadable, BudgetExceeded, NotFound, Conflict, Gone, TooMany),
        *(DatabaseUnavailable, StorageFull),
    ),
)
async def retry_job(
    job_id: JobIdPath,
    rt: RuntimeDep,
    request: Request,
    response: Response,
    _key: IdempotencyKeyHeader = None,
    _prefer: PreferHeader = None,
    *,
    again: Annotated[
        bool,
        Query(description="`true`: create another job even if a retry of this one exists."),
        StrictBool,
    ] = False,
) -> JobRead:
    """Create a new job with the request of a job that failed or was cancelled.

    All retries of one job are the same job: as long as that one has not ended, or has completed
    and still has its files, it is returned with 200, also to concurrent callers.
    """
    who = caller(request)
    identity = identify_retry(request, job_id, again=again)
    accepted = await retry_once(
        rt, job_id, identity, tenant_id=who.tenant_id, key_id=who.key_id, again=again
    )
    if not accepted.created:
        response.status_code = 200
    headers: dict[str, str] = {}
    view = await view_of(request, headers, accepted)
    view = await wait_for_end(request, headers, view)
    response.headers.update({**headers, "Location": _address(view, rt)})
    return JobRead.from_job(view.job, view.media, addresses(rt))


@router.post(
    "/jobs/{job_id}/collect",
    scope=Scope.JOBS_WRITE,
    operation_id="collect_job",
    summary="Collect a paid result again",
    response_description="The job.",
    responses=problems(NotFound, Conflict, Gone, DatabaseUnavailable),
)
async def collect_job(job_id: JobIdPath, rt: RuntimeDep, request: Request) -> JobRead:
    """Fetch the result of a failed job whose prediction succeeded; nothing is paid for again.

    For results that could not be stored: too large, from a host that was not allowed, or not
    supported by an earlier release. If the job is being collected, the next try starts at once; a
    completed job is returned unchanged.
    """
    job = await recollect(rt, job_id, tenant_id=caller(request).tenant_id)
    view = await jobs.get(rt.db, job.id, tenant_id=caller(request).tenant_id)
    return JobRead.from_job(view.job, view.media, addresses(rt))


def _address(view: JobView, rt: Runtime) -> str:
    return link(rt, f"/api/v1/jobs/{view.job.id}")
