"""Version 1: lists of jobs, filtered, and how many there are."""

from datetime import date
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Query, Response
from fastapi.requests import Request
from pydantic import Field

from fleek.api.deps import NEXT_LINK, RuntimeDep, StrictInt, addresses, caller, link
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import DatabaseUnavailable, FieldError, InvalidInput
from fleek.domain.job import JobId
from fleek.schemas import JobRead
from fleek.schemas.base import Schema
from fleek.schemas.filter import (
    Bool,
    JobFilterFields,
    JobOrderFields,
    Statuses,
    read_cursor,
    write_cursor,
)
from fleek.store import listing

MAX_OFFSET: Final = 10_000
MAX_CURSOR: Final = 2000  # characters

LISTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            **NEXT_LINK,
            "X-Total-Count": {
                "description": "With `count=true`: how many jobs match; up to 10,000 are counted.",
                "schema": {"type": "integer"},
            },
        }
    }
}

router = strict_router("/api/v1", tag="jobs")


class JobDaysQuery(JobFilterFields):
    """Query parameters that choose jobs."""

    status_filter: Statuses = Field(default_factory=list, description="The same as `status`.")

    def conditions(self) -> JobOrderFields:
        """Return what was asked for, under one name each."""
        said = self.model_dump(include=set(JobOrderFields.model_fields), exclude_defaults=True)
        statuses = sorted({*self.status, *self.status_filter})
        return JobOrderFields.model_construct(**said | ({"status": statuses} if statuses else {}))


class JobListQuery(JobDaysQuery, JobOrderFields):
    """Query parameters of a list."""

    limit: Annotated[int, StrictInt] = Field(
        default=50, ge=1, le=100, description="Maximum number of jobs."
    )
    offset: Annotated[int, StrictInt] = Field(
        default=0,
        ge=0,
        le=MAX_OFFSET,
        description="Number of jobs to skip; only with one filter at most.",
    )
    count: Bool = Field(
        default=None, description="`true`: count the matching jobs into `X-Total-Count`."
    )
    cursor: str | None = Field(
        default=None,
        max_length=MAX_CURSOR,
        description="Start of the page, from the `Link` header of the previous one. It holds the "
        "filter, which need not be repeated.",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},
    )


@router.get(
    "/jobs",
    scope=Scope.JOBS_READ,
    operation_id="list_jobs",
    summary="List jobs",
    response_description="The jobs.",
    responses=LISTED | problems(DatabaseUnavailable),
)
async def list_jobs(
    rt: RuntimeDep, request: Request, response: Response, query: Annotated[JobListQuery, Query()]
) -> list[JobRead]:
    """Return jobs, newest first. For long lists follow `Link`: each page costs the same.

    A page looks at a limited number of jobs. With several filters it may hold fewer than `limit`
    although more follow: the list has ended when there is no `Link`.
    """
    after, conditions = _resolved(query)
    wanted, tenant_id = conditions.to_filter(), caller(request).tenant_id
    if query.offset and not listing.is_indexed(wanted):
        raise _refused(
            "offset", "needs a list with one filter at most; for further pages follow Link"
        )
    page = await listing.page(
        rt.db, wanted, tenant_id=tenant_id, limit=query.limit, offset=query.offset, after=after
    )
    if query.count:
        counted = await listing.count(rt.db, wanted, tenant_id=tenant_id)
        response.headers["X-Total-Count"] = str(counted)
    if page.after is not None:
        following = {"limit": query.limit, "cursor": write_cursor(page.after, conditions)}
        address = link(rt, f"/api/v1/jobs?{urlencode(following)}")
        response.headers["Link"] = f'<{address}>; rel="next"'
    return [JobRead.from_job(view.job, view.media, addresses(rt)) for view in page.views]


def _resolved(query: JobListQuery) -> tuple[JobId | None, JobOrderFields]:
    """Return where the page begins, and what the list holds: said by the query or by its cursor."""
    asked = query.conditions()
    if query.cursor is None:
        return None, asked
    after, held = read_cursor(query.cursor)
    if asked.model_dump(exclude_defaults=True) and asked != held:
        raise _refused("cursor", "belongs to a list with another filter")
    return after, held


def _refused(name: str, detail: str) -> InvalidInput:
    problem = FieldError(f"/{name}", name, detail, location="query")
    return InvalidInput(f"{name}: {detail}", errors=[problem])


class JobDay(Schema):
    """A day on which jobs were created."""

    day: date
    jobs: int = Field(description="How many.")


@router.get(
    "/jobs/days",
    scope=Scope.JOBS_READ,
    operation_id="list_days",
    summary="Count jobs by day",
    response_description="The days, newest first.",
    responses=problems(DatabaseUnavailable),
)
async def list_days(
    rt: RuntimeDep, request: Request, query: Annotated[JobDaysQuery, Query()]
) -> list[JobDay]:
    """Return the days (UTC) on which jobs were created, with their number.

    Up to 10,000 jobs are counted; for earlier days add `created_before`.
    """
    tenant_id = caller(request).tenant_id
    wanted = query.conditions().to_filter()
    days = await listing.by_day(rt.db, wanted, tenant_id=tenant_id)
    return [JobDay(day=day, jobs=jobs) for day, jobs in days]
