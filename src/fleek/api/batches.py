"""Version 1: batches, many requests in one call."""

import asyncio
import hashlib
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Path, Query, Response
from fastapi.requests import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from uuid_utils.compat import uuid7

from fleek import strict
from fleek.api.admission import UNTIMED
from fleek.api.batch_body import BatchBody
from fleek.api.bulk import OPERATION, BulkRead
from fleek.api.deps import (
    JOB_ID,
    NEXT_LINK,
    RuntimeDep,
    StrictInt,
    actor,
    caller,
    link,
    location_of,
    runtime,
)
from fleek.api.errors import problems
from fleek.api.idempotency import REPLAYED, IdempotencyKeyHeader, key_of, said
from fleek.api.request_body import body_parts
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.batch import MOST_MEMBERS, Batch
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
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import BatchId
from fleek.engine.batches import accept_batch, cancel_batch, retry_batch
from fleek.engine.runtime import Runtime
from fleek.engine.spool import write_spool
from fleek.schemas.batches import BatchRead
from fleek.storage.base import spool_file
from fleek.store import batches
from fleek.store.bulk import BulkOperation

LINES: Final = frozenset({"application/jsonl", "application/x-ndjson", "application/jsonlines"})
REQUEST: Final = {"$ref": "#/components/schemas/JobCreate"}
BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": f"Up to {MOST_MEMBERS:,} requests: a list, or one with a grid of values for its "
        "parameters (and its `prompt`), which stands for every combination, the last one changing "
        "first; or JSON Lines (`Content-Type: application/jsonl`), with one request in each line.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "requests": {"type": "array", "items": REQUEST, "minItems": 1},
                        "request": {"type": "object"},
                        "grid": {
                            "type": "object",
                            "additionalProperties": {"type": "array", "items": {}, "minItems": 1},
                        },
                    },
                    "additionalProperties": False,
                },
                "examples": {
                    "requests": {
                        "value": {"requests": [{"prompt": "A cat"}, {"prompt": "A dog"}]}
                    },
                    "grid": {
                        "value": {
                            "request": {"prompt": "A cat", "parameters": {"width": 512}},
                            "grid": {"prompt": ["A cat", "A dog"], "seed": [1, 2, 3]},
                        }
                    },
                },
            },
        },
    }
}
CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {"headers": {**location_of("batch"), **REPLAYED}}
}

router = strict_router("/api/v1", tag="batches")


def _uuid(value: Any) -> UUID:
    if not isinstance(value, str) or JOB_ID.fullmatch(value) is None:
        raise ValueError("must be a UUID in lower case, with hyphens")
    return UUID(value)


BatchIdPath = Annotated[
    BatchId,
    BeforeValidator(_uuid),
    Path(description="Id of the batch.", json_schema_extra={"pattern": f"^{JOB_ID.pattern}$"}),
]


@router.post(
    "/batches",
    scope=Scope.JOBS_WRITE,
    status_code=201,
    operation_id="create_batch",
    summary="Create many jobs",
    response_description="The batch.",
    responses=CREATED
    | problems(
        *(Unreadable, BudgetExceeded, Gone, TooLarge, Unsupported, TooMany),
        *(DatabaseUnavailable, StorageFull),
    ),
    openapi_extra=BODY,
)
async def create_batch(
    request: Request, response: Response, _key: IdempotencyKeyHeader = None
) -> BatchRead:
    """Accept many requests together. Each member is a job like any other, with the batch's id.

    All members are checked before anything is stored: if one is refused, so is the batch, and
    `errors` names the members (`/requests/7/parameters/width`). Send an `Idempotency-Key`: if the
    response is lost, however far the request has come, the same request with the same key returns the
    same batch, each member once. `MAX_LIVE_JOBS` counts each member; the rate of requests counts the
    batch as one.
    """
    rt = runtime(request)
    request.scope[UNTIMED] = True
    lines, most, key = _is_lines(request), rt.settings.max_batch_bytes, key_of(request)
    async with spool_file(rt.storage, "batch") as path:
        await write_spool(
            body_parts(request),
            path,
            most=most,
            too_large=TooLarge(f"the body must have at most MAX_BATCH_BYTES={most} bytes"),
            min_free_bytes=rt.settings.min_free_bytes,
        )
        body = BatchBody(path, lines, caller(request), rt.settings.max_body_bytes)
        total, digest = await asyncio.to_thread(_read, body)
        tenant_id = caller(request).tenant_id
        identity = RequestIdentity(tenant_id=tenant_id, digest=digest, key=key)
        accepted = await accept_batch(rt, _new(rt, request, total), body.members, identity)
    if accepted.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    batch_id = accepted.batch.id
    response.headers["Location"] = link(rt, f"/api/v1/batches/{batch_id}")
    view = await batches.get(rt.db, batch_id, tenant_id=tenant_id)
    return BatchRead.of(view, public=rt.settings.public_base)


def _is_lines(request: Request) -> bool:
    """Whether the body is JSON Lines, by its Content-Type.

    Raises:
        Unsupported: It is neither this nor JSON, or it is compressed.
    """
    kinds = request.headers.getlist("content-type")
    kind = "".join(kinds).lower().partition(";")[0].strip()
    if len(kinds) > 1 or kind not in LINES | {"application/json"}:
        raise Unsupported(
            "the body must be sent with Content-Type: application/json or application/jsonl"
        )
    encodings = request.headers.getlist("content-encoding")
    if any(encoding.strip().lower() != "identity" for encoding in encodings):
        raise Unsupported("the body must not be compressed")
    return kind in LINES


def _read(body: BatchBody) -> tuple[int, bytes]:
    """Check the form of all members; returns how many there are, and what tells them from others."""
    digest, total = hashlib.sha256(), 0
    for member in body.members():
        total += 1
        content = strict.canonical({"batch": said(member)})
        digest.update(len(content).to_bytes(8) + content)
    return total, digest.digest()


def _new(rt: Runtime, request: Request, total: int) -> Batch:
    who = caller(request)
    return Batch(
        id=BatchId(uuid7()),
        tenant_id=who.tenant_id,
        key_id=who.key_id,
        total=total,
        created_at=rt.now(),
    )


class BatchListQuery(BaseModel):
    """Query parameters of the list of batches."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    limit: Annotated[int, StrictInt] = Field(
        default=50, ge=1, le=100, description="Maximum number of batches."
    )
    cursor: Annotated[
        BatchId | None, BeforeValidator(_uuid, json_schema_input_type=UUID | None)
    ] = Field(
        default=None, description="Start of the page, from the `Link` header of the previous one."
    )


@router.get(
    "/batches",
    scope=Scope.JOBS_READ,
    operation_id="list_batches",
    summary="List batches",
    response_description="The batches.",
    responses={200: {"headers": NEXT_LINK}} | problems(DatabaseUnavailable),
)
async def list_batches(
    rt: RuntimeDep, request: Request, response: Response, query: Annotated[BatchListQuery, Query()]
) -> list[BatchRead]:
    """Return batches, newest first. For long lists follow `Link`."""
    found = await batches.page(
        rt.db, tenant_id=caller(request).tenant_id, limit=query.limit, after=query.cursor
    )
    if len(found) == query.limit:
        following = urlencode({"limit": query.limit, "cursor": str(found[-1].batch.id)})
        response.headers["Link"] = f'<{link(rt, f"/api/v1/batches?{following}")}>; rel="next"'
    return [BatchRead.of(view, public=rt.settings.public_base) for view in found]


@router.get(
    "/batches/{batch_id}",
    scope=Scope.JOBS_READ,
    operation_id="get_batch",
    summary="Get a batch",
    response_description="The batch.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def get_batch(batch_id: BatchIdPath, rt: RuntimeDep, request: Request) -> BatchRead:
    """Return how far a batch has come. Its jobs are those of `GET /api/v1/jobs?batch=ID`."""
    view = await batches.get(rt.db, batch_id, tenant_id=caller(request).tenant_id)
    return BatchRead.of(view, public=rt.settings.public_base)


@router.post(
    "/batches/{batch_id}/cancel",
    status_code=202,
    scope=Scope.JOBS_WRITE,
    operation_id="cancel_batch",
    summary="Cancel a batch",
    response_description="The accepted operation.",
    responses=OPERATION | problems(NotFound, Conflict, DatabaseUnavailable),
)
async def cancel(
    batch_id: BatchIdPath, rt: RuntimeDep, request: Request, response: Response
) -> BulkRead:
    """Cancel the jobs of a batch that have not ended, and accept no further member. Poll `Location`."""
    operation = await cancel_batch(
        rt, batch_id, tenant_id=caller(request).tenant_id, by=actor(request)
    )
    return _accepted(rt, operation, response)


@router.post(
    "/batches/{batch_id}/retry",
    status_code=202,
    scope=Scope.JOBS_WRITE,
    operation_id="retry_batch",
    summary="Retry what failed of a batch",
    response_description="The accepted operation.",
    responses=OPERATION | problems(NotFound, Conflict, DatabaseUnavailable),
)
async def retry(
    batch_id: BatchIdPath, rt: RuntimeDep, request: Request, response: Response
) -> BulkRead:
    """Retry the members of a batch that failed. Each retry takes the place of its member."""
    operation = await retry_batch(
        rt, batch_id, tenant_id=caller(request).tenant_id, by=actor(request)
    )
    return _accepted(rt, operation, response)


def _accepted(rt: Runtime, operation: BulkOperation, response: Response) -> BulkRead:
    response.headers["Location"] = link(rt, f"/api/v1/operations/{operation.id}")
    return BulkRead.of(operation)
