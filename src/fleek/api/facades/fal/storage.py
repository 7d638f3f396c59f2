"""Routes of files, whose addresses are values of arguments.

Python's client sends a file with its key, and then gets the address. JavaScript's asks for two addresses first: one that
takes the file, without a key, and one for the argument.
"""

from typing import Annotated, Final

from fastapi import Query
from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from fleek.api.admission import UNTIMED
from fleek.api.deps import addresses, caller, runtime
from fleek.api.facades.routes import FacadeRouter
from fleek.api.upload_addresses import Reserved, reserve
from fleek.api.uploads import uploaded_file
from fleek.domain.access import BY_ADDRESS, Scope
from fleek.domain.errors import NotFound, TooLarge
from fleek.domain.uploads import UploadId
from fleek.engine.runtime import Runtime
from fleek.engine.uploads import accept_upload

IGNORED_HEADERS: Final = ("X-Fal-Object-Lifecycle", "X-Fal-Object-Lifecycle-Preference")
"""How long fal would keep a file: here it is `UPLOAD_RETENTION_HOURS`."""

router = FacadeRouter("/fal")


class FileAnnouncement(BaseModel):
    """What a client says of a file before it sends it. Neither is believed: the bytes tell the type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    content_type: str = Field(max_length=1000)
    file_name: str = Field(max_length=1000)


@router.route("POST", "/storage/auth/token", scope=Scope.JOBS_WRITE)
async def get_token(request: Request, storage_type: str = "") -> Response:  # noqa: ARG001 - there is one
    """Return where Python's client uploads files to, with the key that it has."""
    public = runtime(request).settings.public_base
    scheme, _, key = request.headers.get("authorization", "Key none").partition(" ")
    return JSONResponse(
        {
            "token": key,
            "token_type": scheme,
            "base_url": f"{public}/fal",
            "expires_at": "2100-01-01T00:00:00Z",
        },
        headers={"Cache-Control": "no-store"},
    )


@router.route("POST", "/files/upload", scope=Scope.JOBS_WRITE)
async def upload(request: Request) -> Response:
    """Store a file, the body; its address is the value of an argument."""
    rt = runtime(request)
    request.scope[UNTIMED] = True
    chunks = uploaded_file(request, most=rt.settings.max_upload_bytes)
    stored = await accept_upload(rt, chunks, tenant_id=caller(request).tenant_id)
    return JSONResponse({"access_url": _address(rt, stored.id)}, headers=_noted(request))


@router.route("POST", "/storage/upload/initiate", scope=Scope.JOBS_WRITE)
async def initiate(
    announced: FileAnnouncement,  # noqa: ARG001 - its form is checked
    request: Request,
    storage_type: str = "",  # noqa: ARG001 - there is one
) -> Response:
    """Return an address that takes a file, and the address that the file has then."""
    rt = runtime(request)
    upload_id, name = reserve(rt, caller(request))
    taking = f"{addresses(rt).public}/fal/storage/files/{name}"
    body = {"upload_url": taking, "file_url": _address(rt, upload_id)}
    return JSONResponse(body, headers={"Cache-Control": "no-store", **_noted(request)})


@router.route("PUT", "/storage/files/{name}", scope=BY_ADDRESS)
async def put(
    name: str,
    request: Request,
    exp: Annotated[str | None, Query()] = None,  # noqa: ARG001 - see `fleek.api.upload_addresses`
    sig: Annotated[str | None, Query()] = None,  # noqa: ARG001 - likewise
) -> Response:
    """Store the file that an address was given for, the body. The same file may be sent again."""
    rt, named = runtime(request), Reserved.read(name)
    if named is None:
        raise NotFound("no file can be sent to this address")
    request.scope[UNTIMED] = True
    chunks = uploaded_file(request, most=rt.settings.max_upload_bytes)
    tenant_id = caller(request).tenant_id
    stored = await accept_upload(rt, chunks, tenant_id=tenant_id, reserved=named.upload_id)
    return JSONResponse({"access_url": _address(rt, stored.id)})


@router.route("POST", "/storage/upload/initiate-multipart", scope=Scope.JOBS_WRITE)
@router.route("POST", "/files/upload/multipart", scope=Scope.JOBS_WRITE)
async def refuse_parts(request: Request, storage_type: str = "") -> Response:  # noqa: ARG001 - whichever
    """Refuse a file in parts, as clients send those of 90 MiB (JavaScript) or 100 MiB (Python) and more."""
    most = runtime(request).settings.max_upload_bytes
    raise TooLarge(
        f"files in parts are not supported: send a file of up to MAX_UPLOAD_BYTES={most} bytes to "
        "/api/v1/uploads, and pass upload:ID; or pass the file's address"
    )


def _address(rt: Runtime, upload_id: UploadId) -> str:
    """Return the address of a file, as an argument names it."""
    return f"{addresses(rt).public}/fal/files/{upload_id}"


def _noted(request: Request) -> dict[str, str]:
    unused = [name for name in IGNORED_HEADERS if name in request.headers]
    return {"X-Fleek-Ignored": ", ".join(unused)} if unused else {}
