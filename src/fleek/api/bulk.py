"""Version 1: operations on many jobs, by their ids or by a filter."""

from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

from fastapi import Response
from fastapi.requests import Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleek.api.deps import JobIdPath, RuntimeDep, actor, caller, link, location_of
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    NotFound,
    TooLarge,
    Unreadable,
    Unsupported,
)
from fleek.domain.job import JobId
from fleek.engine.bulk import accept
from fleek.engine.runtime import Runtime
from fleek.schemas.base import Schema
from fleek.schemas.filter import JobFilterFields
from fleek.store import bulk
from fleek.store.bulk import BulkAction, BulkOperation, OperationId

MAX_IDS: Final = 1000

router = strict_router("/api/v1", tag="jobs")


class BulkRequest(BaseModel):
    """Which jobs: either `ids` or a `filter`."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {"filter": {"tag": "sea", "created_before": "2026-11-01T00:00:00Z"}},
                {"ids": ["0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41"]},
            ]
        },
    )

    ids: list[UUID] | None = Field(
        default=None, min_length=1, max_length=MAX_IDS, description="Ids of jobs."
    )
    filter: JobFilterFields | None = Field(
        default=None, description="Conditions as those of a list; without any, all jobs."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("must have either ids or a filter")
        return self


class BulkRead(Schema):
    """An operation on many jobs."""

    id: UUID
    action: BulkAction
    matched: int = Field(
        description="Jobs that were found when it was accepted; up to 10,000 are counted."
    )
    changed: int
    skipped: int = Field(
        description="Jobs that are not there, whose state forbids it, or that were changed before."
    )
    failed: int = Field(description="Jobs whose request is not acceptable any more.")
    created_at: datetime
    ended_at: datetime | None = Field(description="Null: it goes on.")

    @classmethod
    def of(cls, operation: BulkOperation) -> Self:
        """Present an operation."""
        return cls(**{name: getattr(operation, name) for name in cls.model_fields})


OPERATION: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "headers": {
            **location_of("operation"),
        }
    }
}
ACCEPTED: Final = OPERATION | problems(
    Unreadable, Conflict, TooLarge, Unsupported, DatabaseUnavailable
)


@router.post(
    "/jobs/cancel",
    status_code=202,
    scope=Scope.JOBS_WRITE,
    operation_id="cancel_jobs",
    summary="Cancel many jobs",
    response_description="The accepted operation.",
    responses=ACCEPTED,
)
async def cancel_jobs(
    body: BulkRequest, rt: RuntimeDep, request: Request, response: Response
) -> BulkRead:
    """Cancel jobs that have not ended; others are skipped.

    The operation is stored before the response, and then done in pages. Poll `Location`.
    """
    return await _accepted(BulkAction.CANCEL, body, rt, request, response)


@router.post(
    "/jobs/retry",
    status_code=202,
    scope=Scope.JOBS_WRITE,
    operation_id="retry_jobs",
    summary="Retry many jobs",
    response_description="The accepted operation.",
    responses=ACCEPTED,
)
async def retry_jobs(
    body: BulkRequest, rt: RuntimeDep, request: Request, response: Response
) -> BulkRead:
    """Retry jobs that failed, and cancelled ones if `status` or an id names them.

    A job that has a retry already is skipped. Poll `Location`.
    """
    return await _accepted(BulkAction.RETRY, body, rt, request, response)


@router.post(
    "/jobs/purge",
    status_code=202,
    scope=Scope.JOBS_WRITE,
    operation_id="purge_jobs",
    summary="Purge many jobs",
    response_description="The accepted operation.",
    responses=ACCEPTED,
)
async def purge_jobs(
    body: BulkRequest, rt: RuntimeDep, request: Request, response: Response
) -> BulkRead:
    """Remove the files and metadata documents of jobs for good.

    By a filter, jobs that have ended, unless `status` names others: these are cancelled first. Poll
    `Location`.
    """
    return await _accepted(BulkAction.PURGE, body, rt, request, response)


@router.get(
    "/operations/{operation_id}",
    scope=Scope.JOBS_READ,
    operation_id="get_operation",
    summary="Get an operation on many jobs",
    response_description="The operation.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def get_operation(operation_id: JobIdPath, rt: RuntimeDep, request: Request) -> BulkRead:
    """Return how far an operation has come. It is kept for 7 days after its end."""
    tenant_id = caller(request).tenant_id
    return BulkRead.of(await bulk.get(rt.db, OperationId(operation_id), tenant_id=tenant_id))


async def _accepted(
    action: BulkAction, body: BulkRequest, rt: Runtime, request: Request, response: Response
) -> BulkRead:
    operation = await accept(
        rt,
        action,
        tenant_id=caller(request).tenant_id,
        by=actor(request),
        ids=[JobId(one) for one in body.ids or ()],
        wanted=None if body.filter is None else body.filter.to_filter(),
    )
    response.headers["Location"] = link(rt, f"/api/v1/operations/{operation.id}")
    return BulkRead.of(operation)
