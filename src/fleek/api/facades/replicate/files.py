"""Routes of files: uploads, whose address is the value of an input."""

import json
from functools import partial
from typing import Any, Final

from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response

from fleek.api.deps import addresses, caller, runtime
from fleek.api.facades.forms import read_form
from fleek.api.facades.replicate.create import refused
from fleek.api.facades.replicate.prediction import PREFIX
from fleek.api.facades.replicate.predictions import page_of
from fleek.api.facades.routes import FacadeRouter
from fleek.api.uploads import UploadIdPath
from fleek.domain.access import Scope
from fleek.domain.uploads import Upload
from fleek.engine.uploads import accept_upload, remove_upload
from fleek.schemas import Addresses
from fleek.store import uploads

MOST: Final = 100  # in a list

router = FacadeRouter(PREFIX, "/replicate")


@router.route("POST", "/files", scope=Scope.JOBS_WRITE)
async def create(request: Request) -> Response:
    """Store a file. Its type is detected in the bytes; name and metadata are returned once."""
    rt = runtime(request)
    take = partial(accept_upload, rt, tenant_id=caller(request).tenant_id)
    form = await read_form(request, take, files=frozenset({"content"}))
    if len(form.files) != 1:
        raise refused("content", "is required, once")
    sent = form.files[0]
    shown = _present(sent.upload, addresses(rt))
    name = form.get("filename") or sent.filename
    named = {"name": name} if name else {}
    return JSONResponse({**shown, **named, "metadata": _metadata(form.get("metadata"))}, 201)


def _metadata(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise refused("metadata", "must be a JSON object")
    return found


@router.route("GET", "/files", scope=Scope.JOBS_READ)
async def list_all(request: Request) -> Response:
    """Return the latest files."""
    rt = runtime(request)
    tenant_id = caller(request).tenant_id
    found = await uploads.of_tenant(rt.db, tenant_id=tenant_id, limit=MOST)
    return JSONResponse(page_of([_present(upload, addresses(rt)) for upload in found]))


@router.route("GET", "/files/{upload_id}", scope=Scope.JOBS_READ)
async def get(upload_id: UploadIdPath, request: Request) -> Response:
    """Return the description of a file."""
    rt = runtime(request)
    upload = await uploads.get(rt.db, upload_id, tenant_id=caller(request).tenant_id)
    return JSONResponse(_present(upload, addresses(rt)))


@router.route("DELETE", "/files/{upload_id}", scope=Scope.JOBS_WRITE)
async def delete(upload_id: UploadIdPath, request: Request) -> Response:
    """Remove a file, unless a prediction that has not ended needs it."""
    await remove_upload(runtime(request), upload_id, tenant_id=caller(request).tenant_id)
    return Response(status_code=204)


def _present(upload: Upload, here: Addresses) -> dict[str, Any]:
    return {
        "id": str(upload.id),
        "name": upload.key.rpartition("/")[2],
        "content_type": upload.content_type,
        "size": upload.size_bytes,
        "etag": upload.sha256[:32],
        "checksums": {"sha256": upload.sha256},
        "metadata": {},
        "created_at": upload.created_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "expires_at": upload.expires_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "urls": {"get": f"{here.public}{PREFIX}/files/{upload.id}"},
    }
