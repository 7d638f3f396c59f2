"""Uploaded input files: /v1/files."""

import base64
import hmac
import json
from hashlib import md5, sha256
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account, Upload
from fleek.emulator.clock import iso
from fleek.emulator.multipart import multipart
from fleek.emulator.responses import answer, missing, problem

LIFE_SECONDS: Final = 24 * 3600


def routes() -> list[Route]:
    """Return the routes of uploaded files."""
    return [
        Route("/v1/files", _upload, methods=["POST"]),
        Route("/v1/files", _list, methods=["GET"]),
        Route("/v1/files/{id}", _get, methods=["GET"]),
        Route("/v1/files/{id}", _delete, methods=["DELETE"]),
        Route("/v1/files/{id}/download", _download, methods=["GET"]),
    ]


def sign_download(account: Account, owner: str, file_id: str, expiry: str) -> str:
    """Return a signature for the address of an uploaded file, for reads without a token."""
    content = f"{owner} {file_id} {expiry}".encode()
    return base64.b64encode(hmac.digest(account.secret.encode(), content, sha256)).decode()


async def _upload(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    parts = multipart(request.headers.get("content-type", ""), await request.body())
    if "content" not in parts:
        return problem(422, "- content: content is required\n", title="Input validation failed")
    attributes, content = parts["content"]
    fields = {name: value.decode() for name, (_, value) in parts.items() if name != "content"}
    try:
        metadata = json.loads(fields.get("metadata") or "{}")
    except ValueError:
        return problem(422, "- metadata: metadata must be JSON\n", title="Input validation failed")
    upload = Upload(
        id=account.new_id(),
        name=fields.get("filename") or attributes.get("filename", "file"),
        content_type=fields.get("type") or attributes["content-type"],
        content=content,
        metadata=metadata,
        created=account.now(),
    )
    account.uploads[upload.id] = upload
    return answer(_describe(request, upload), 201)


async def _list(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    uploads = [_describe(request, upload) for upload in reversed(account.uploads.values())]
    return answer({"previous": None, "next": None, "results": uploads})


async def _get(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    upload = account.uploads.get(request.path_params["id"])
    return missing() if upload is None else answer(_describe(request, upload))


async def _delete(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    removed = account.uploads.pop(request.path_params["id"], None)
    return missing() if removed is None else Response(status_code=204)


async def _download(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    upload = account.uploads.get(request.path_params["id"])
    if upload is None:
        return missing()
    query = request.query_params
    if signature := query.get("signature"):
        expiry = query.get("expiry", "0")
        due = sign_download(account, query.get("owner", ""), upload.id, expiry)
        if not hmac.compare_digest(due, signature) or account.now() > float(expiry):
            return problem(403, "The signature is invalid or has expired.")
    return Response(upload.content, media_type=upload.content_type)


def _describe(request: Request, upload: Upload) -> dict[str, Any]:
    base = str(request.base_url).rstrip("/")
    checksums = {
        "sha256": sha256(upload.content).hexdigest(),
        "md5": md5(upload.content, usedforsecurity=False).hexdigest(),
    }
    return {
        "id": upload.id,
        "name": upload.name,
        "content_type": upload.content_type,
        "size": len(upload.content),
        "etag": checksums["md5"],
        "checksums": checksums,
        "metadata": upload.metadata,
        "created_at": iso(upload.created),
        "expires_at": iso(upload.created + LIFE_SECONDS),
        "urls": {"get": f"{base}/v1/files/{upload.id}"},
    }
