"""Version 1: create, read, list, cancel, purge, retry and collect jobs."""

import base64
import re
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query, Response
from fastapi.requests import Request

from fleek.api.deps import (
    JobIdPath,
    RuntimeDep,
    StrictBool,
    StrictInt,
    addresses,
    caller,
    link,
    queue_positions,
    runtime,
)
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.api.waiting import WAITED, PreferHeader, wait_for_end
from fleek.domain.access import Scope
from fleek.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    FieldError,
    Gone,
    InvalidInput,
    NotFound,
    StorageFull,
    TooLarge,
    Unreadable,
    Unsupported,
)
from fleek.domain.job import JobId, Status
from fleek.engine.cancel import cancel
from fleek.engine.purge import purge
from fleek.engine.recollect import recollect
from fleek.engine.runtime import Runtime
from fleek.engine.submit import retry, submit
from fleek.schemas import JobCancelled, JobCreate, JobRead
from fleek.store import jobs
from fleek.store.jobs import JobView

MAX_OFFSET: Final = 10_000
CURSOR: Final = re.compile(r"[A-Za-z0-9_-]{22}")

CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {
        "headers": {
            "Location": {
                "description": "The address of the job.",
                "schema": {"type": "string", "format": "uri-reference"},
            },
            **WAITED,
        }
    }
}
RETRIED: Final[dict[int | str, dict[str, Any]]] = {
    **CREATED,
    200: {"model": JobRead, "description": "The existing retry.", **CREATED[201]},
}
LISTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            "Link": {
                "description": 'The next page (`rel="next"`), if there may be one.',
                "schema": {"type": "string"},
            }
        }
    }
}

router = strict_router("/api/v1", tag="jobs")


@router.post(
    "/generate",
    scope=Scope.JOBS_WRITE,
    status_code=201,
    operation_id="create_job",
    summary="Create a job",
    response_description="The accepted job.",
    responses=CREATED
    | problems(Unreadable, TooLarge, Unsupported, DatabaseUnavailable, StorageFull),
)
async def create_job(
    body: JobCreate, request: Request, response: Response, _prefer: PreferHeader = None
) -> JobRead:
    """Accept a job. It is stored durably before the response; poll `Location` for its result."""
    rt = runtime(request)
    job = await submit(rt, body.to_request(caller(request)))
    view = await wait_for_end(request, response, JobView(job, ()))
    return _created(view, rt, response)


@router.get(
    "/status/{job_id}",
    scope=Scope.JOBS_READ,
    operation_id="get_job_status",
    summary="Get a job",
    response_description="The job.",
    responses=problems(NotFound, DatabaseUnavailable),
)
@router.get(
    "/jobs/{job_id}",
    scope=Scope.JOBS_READ,
    operation_id="get_job",
    summary="Get a job",
    response_description="The job.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def get_job(job_id: JobIdPath, request: Request) -> JobRead:
    """Return the current state of a job. Poll until `status` is final."""
    rt = runtime(request)
    view = await jobs.get(rt.db, job_id, tenant_id=caller(request).tenant_id)
    position = await queue_positions(request).position(rt, view.job)
    return JobRead.from_job(view.job, view.media, addresses(rt), queue_position=position)


@router.get(
    "/jobs",
    scope=Scope.JOBS_READ,
    operation_id="list_jobs",
    summary="List jobs",
    response_description="The jobs.",
    responses=LISTED | problems(DatabaseUnavailable),
)
async def list_jobs(
    *,
    rt: RuntimeDep,
    request: Request,
    response: Response,
    status_filter: Annotated[
        Status | None, Query(description="Only jobs with this status.")
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=100, description="Maximum number of jobs."), StrictInt
    ] = 50,
    offset: Annotated[
        int, Query(ge=0, le=MAX_OFFSET, description="Number of jobs to skip."), StrictInt
    ] = 0,
    cursor: Annotated[
        str | None,
        Query(
            description="Start of the page, from the `Link` header of the previous one.",
            json_schema_extra={"pattern": f"^{CURSOR.pattern}$"},
        ),
    ] = None,
) -> list[JobRead]:
    """Return jobs, newest first. For long lists follow `Link`: each page costs the same."""
    views = await jobs.list_page(
        rt.db,
        tenant_id=caller(request).tenant_id,
        status=status_filter,
        limit=limit,
        offset=offset,
        after=None if cursor is None else _read_cursor(cursor),
    )
    if len(views) == limit:
        query = {"limit": limit, "cursor": _cursor(views[-1].job.id)}
        if status_filter is not None:
            query["status_filter"] = status_filter.value
        following = link(rt, f"/api/v1/jobs?{urlencode(query)}")
        response.headers["Link"] = f'<{following}>; rel="next"'
    return [JobRead.from_job(view.job, view.media, addresses(rt)) for view in views]


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
    storage soon after, or as soon as the job's prediction has ended.
    """
    if not wanted:
        return await cancel_job(job_id, rt, request)
    job, by_this_call = await purge(rt, job_id, tenant_id=caller(request).tenant_id)
    message = "Job purged" if by_this_call else "Job was purged already"
    return JobCancelled(message=message, job=JobRead.from_job(job, (), addresses(rt)))


@router.post(
    "/jobs/{job_id}/retry",
    scope=Scope.JOBS_WRITE,
    status_code=201,
    operation_id="retry_job",
    summary="Retry a job",
    response_description="The new job.",
    responses=RETRIED | problems(NotFound, Conflict, DatabaseUnavailable, StorageFull),
)
async def retry_job(
    job_id: JobIdPath,
    rt: RuntimeDep,
    request: Request,
    response: Response,
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
    job, created = await retry(rt, job_id, tenant_id=caller(request).tenant_id, again=again)
    view = JobView(job, ())
    if not created:
        response.status_code = 200
        view = await jobs.get(rt.db, job.id, tenant_id=caller(request).tenant_id)
    return _created(await wait_for_end(request, response, view), rt, response)


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


def _created(view: JobView, rt: Runtime, response: Response) -> JobRead:
    response.headers["Location"] = link(rt, f"/api/v1/jobs/{view.job.id}")
    return JobRead.from_job(view.job, view.media, addresses(rt))


def _cursor(job_id: JobId) -> str:
    return base64.urlsafe_b64encode(job_id.bytes).decode().rstrip("=")


def _read_cursor(cursor: str) -> JobId:
    """Return the id of the last job of the previous page.

    Raises:
        InvalidInput: The cursor is malformed.
    """
    if CURSOR.fullmatch(cursor):
        job_id = JobId(UUID(bytes=base64.urlsafe_b64decode(cursor + "==")))
        if _cursor(job_id) == cursor:
            return job_id
    problem = FieldError(
        "/cursor", "cursor", "must be copied from the Link header of a list", location="query"
    )
    raise InvalidInput("cursor: must be copied from the Link header of a list", errors=[problem])
