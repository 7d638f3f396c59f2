"""fal's storage of input files: tokens for uploads, the uploads, and the files.

Source: the package `fal-client` 1.0.3, its repository ``fal_v3``.
"""

from hashlib import sha256
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account, Upload
from fleek.emulator.clock import iso
from fleek.emulator.fal.representation import PREFIX
from fleek.emulator.plan import Faults
from fleek.emulator.reads import draw
from fleek.emulator.responses import answer, failed, html, missing, problem, reset

TOKEN: Final = "emulated-upload-token"  # noqa: S105 - it opens nothing
TOKEN_SECONDS: Final = 600


def routes() -> list[Route]:
    """Return the routes of the storage."""
    return [
        Route(f"{PREFIX}/storage/auth/token", _token, methods=["POST"]),
        Route(f"{PREFIX}/files/upload", _upload, methods=["POST"]),
        Route(f"{PREFIX}/files/{{id}}/{{name}}", _get, methods=["GET"]),
    ]


def is_open(path: str) -> bool:
    """Whether a path is one of files, whose token is not the account's key."""
    return path.startswith(f"{PREFIX}/files/")


async def _token(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    faults = draw(request, "upload")
    if "token_5xx" in faults:
        return failed(faults["token_5xx"])
    if "token_html" in faults:
        return html()
    if request.query_params.get("storage_type") != "fal-cdn-v3":
        return problem(422, "unknown storage_type")
    expiry = iso(account.now() + TOKEN_SECONDS)
    base = f"{request.base_url}{PREFIX.strip('/')}"
    return answer({"token": TOKEN, "token_type": "Bearer", "base_url": base, "expires_at": expiry})


async def _upload(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    if request.headers.get("authorization") != f"Bearer {TOKEN}":
        return problem(401, "invalid token")
    faults = draw(request, "upload")
    if (refusal := _refusal(faults)) is not None:
        return refusal
    upload = await _stored(account, request)
    address = f"{request.base_url}{PREFIX.strip('/')}/files/{upload.id}/{upload.name}"
    if "upload_then_reset" in faults:
        return reset()
    if "upload_odd" in faults:
        return answer({"access_url": None})
    return answer({"access_url": address})


def _refusal(faults: Faults) -> ASGIApp | None:
    """Return the response to an upload that is not stored."""
    if "upload_5xx" in faults:
        return failed(faults["upload_5xx"])
    if "upload_refused" in faults:
        return problem(int(faults["upload_refused"]), "the file is not accepted")
    return reset() if "upload_reset" in faults else None


async def _stored(account: Account, request: Request) -> Upload:
    content, headers = await request.body(), request.headers
    upload = Upload(
        id=account.new_id(),
        name=headers.get("x-fal-file-name", "file"),
        content_type=headers.get("content-type", ""),
        content=content,
        metadata=_lifecycle(headers.get("x-fal-object-lifecycle")),
        created=account.now(),
    )
    account.uploads[upload.id] = upload
    account.ledger.add("upload", id=upload.id, t=account.now(), sha256=sha256(content).hexdigest())
    return upload


def _lifecycle(header: str | None) -> dict[str, Any]:
    return {} if header is None else {"lifecycle": header}


async def _get(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    upload = account.uploads.get(request.path_params["id"])
    if upload is None or upload.name != request.path_params["name"]:
        return missing()
    return Response(upload.content, media_type=upload.content_type)
