"""Version 1: uploads, the files that jobs take as inputs."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Path, Response
from fastapi.requests import Request
from pydantic import BeforeValidator

from fleek.api.admission import UNTIMED
from fleek.api.deps import JOB_ID, RuntimeDep, caller, link, location_of
from fleek.api.errors import problems
from fleek.api.multipart import boundary_of, read_file
from fleek.api.request_body import body_parts
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    NotFound,
    StorageFull,
    TooLarge,
    TooMany,
    Unreadable,
    Unsupported,
)
from fleek.domain.uploads import UploadId
from fleek.engine.uploads import accept_upload, remove_upload
from fleek.schemas.uploads import UploadRead
from fleek.store import uploads

FRAMING: Final = 64 * 1024  # bytes of a form around its file
BINARY: Final = {"type": "string", "format": "binary"}
BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "The file itself with any Content-Type, or a form with one file.",
        "content": {
            "application/octet-stream": {"schema": BINARY},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": BINARY},
                    "required": ["file"],
                    "additionalProperties": False,
                }
            },
        },
    }
}
CREATED: Final[dict[int | str, dict[str, Any]]] = {201: {"headers": location_of("upload")}}


def _uuid(value: Any) -> UUID:
    if not isinstance(value, str) or JOB_ID.fullmatch(value) is None:
        raise ValueError("must be a UUID in lower case, with hyphens")
    return UUID(value)


UploadIdPath = Annotated[
    UploadId,
    BeforeValidator(_uuid),
    Path(description="Id of the upload.", json_schema_extra={"pattern": f"^{JOB_ID.pattern}$"}),
]

router = strict_router("/api/v1", tag="uploads")


@router.post(
    "/uploads",
    scope=Scope.JOBS_WRITE,
    status_code=201,
    operation_id="create_upload",
    summary="Upload a file",
    response_description="The upload.",
    responses=CREATED
    | problems(Unreadable, TooLarge, Unsupported, TooMany, DatabaseUnavailable, StorageFull),
    openapi_extra=BODY,
)
async def create_upload(rt: RuntimeDep, request: Request, response: Response) -> UploadRead:
    """Store a file for the parameters of jobs: give its `reference` as the value of a parameter.

    Its type is detected in the bytes; the Content-Type is not believed. The same bytes of the same
    tenant are one upload, which is kept for `UPLOAD_RETENTION_HOURS` from now on, and for as long
    as a job that has not ended refers to it.
    """
    request.scope[UNTIMED] = True
    chunks = uploaded_file(request, most=rt.settings.max_upload_bytes)
    upload = await accept_upload(rt, chunks, tenant_id=caller(request).tenant_id)
    response.headers["Location"] = link(rt, f"/api/v1/uploads/{upload.id}")
    return UploadRead.of(upload, public=rt.settings.public_base)


@router.get(
    "/uploads/{upload_id}",
    scope=Scope.JOBS_READ,
    operation_id="get_upload",
    summary="Get an upload",
    response_description="The upload.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def get_upload(upload_id: UploadIdPath, rt: RuntimeDep, request: Request) -> UploadRead:
    """Return the description of an uploaded file."""
    upload = await uploads.get(rt.db, upload_id, tenant_id=caller(request).tenant_id)
    return UploadRead.of(upload, public=rt.settings.public_base)


@router.delete(
    "/uploads/{upload_id}",
    scope=Scope.JOBS_WRITE,
    operation_id="delete_upload",
    summary="Delete an upload",
    response_description="The upload, as it was.",
    responses=problems(NotFound, Conflict, DatabaseUnavailable),
)
async def delete_upload(upload_id: UploadIdPath, rt: RuntimeDep, request: Request) -> UploadRead:
    """Remove an uploaded file before its time, unless a job that has not ended refers to it."""
    upload = await remove_upload(rt, upload_id, tenant_id=caller(request).tenant_id)
    return UploadRead.of(upload, public=rt.settings.public_base)


def uploaded_file(request: Request, *, most: int) -> AsyncIterator[bytes]:
    """Return the bytes of the file that a request holds, as they come in.

    Raises:
        Unreadable: It is a form without a boundary.
        TooLarge: It announces more than `most` bytes.
        Unsupported: It is compressed.
    """
    kinds = request.headers.getlist("content-type")
    if len(kinds) > 1:
        raise Unsupported("the body must be sent with one Content-Type, not several")
    encodings = request.headers.getlist("content-encoding")
    if any(encoding.strip().lower() != "identity" for encoding in encodings):
        raise Unsupported("the body must not be compressed")
    boundary = boundary_of("".join(kinds))
    length = request.headers.get("content-length", "0")
    allowed = most + (0 if boundary is None else FRAMING)
    if not length.isdecimal() or int(length[:20]) > allowed:
        raise TooLarge(f"the file must have at most MAX_UPLOAD_BYTES={most} bytes")
    chunks = body_parts(request)
    return chunks if boundary is None else read_file(chunks, boundary)
