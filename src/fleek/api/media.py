"""Stored files: downloads, public media addresses, metadata documents.

The bytes are untrusted: they may be made to run in a browser. So they are served with the type that was
detected in them, and with headers that keep them from acting as a page of this service.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Path, Query
from fastapi.requests import Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from fleek import strict
from fleek.api.deps import JOB_ID, JobIdPath, RuntimeDep, StrictBool, StrictInt, caller
from fleek.api.errors import PROBLEM_JSON, problem, problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    Gone,
    NotFound,
    StorageError,
)
from fleek.domain.job import JobId, Status
from fleek.domain.media import Media, Part, metadata_key, purged
from fleek.domain.values import dataclass
from fleek.engine.metadata_document import document
from fleek.engine.runtime import Runtime
from fleek.schemas import media_name
from fleek.sniff import SAFE_INLINE, presentation
from fleek.storage.base import Link, Storage
from fleek.store import jobs
from fleek.store.jobs import JobView

RANGE: Final = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a file from `start` up to, but not including, `stop`."""

    start: int
    stop: int


def unchanged(headers: Headers, etag: str) -> bool:
    """Whether the caller already has this version, by If-None-Match."""
    given = ",".join(headers.getlist("if-none-match"))
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return etag in tags or "*" in tags


def requested(headers: Headers, *, etag: str, size: int) -> ByteRange | None:
    """Return the requested range, or None for the whole file.

    Raises:
        HTTPException: 416, the range starts after the end of the file.
    """
    found = RANGE.fullmatch(headers.get("range", ""))
    if found is None or headers.get("if-range", etag) != etag:
        return None  # no range, several, not in bytes, or of another version
    first, last = found.groups()
    if first:
        span = ByteRange(int(first), min(int(last) + 1, size) if last else size)
        malformed = bool(last) and int(last) < int(first)
    else:
        span = ByteRange(max(size - int(last), 0) if last else 0, size)
        malformed = not last
    if malformed:
        return None
    if span.start >= size:
        raise HTTPException(416, headers={"Content-Range": f"bytes */{size}"})
    return span


NAME: Final = re.compile(rf"({JOB_ID.pattern})(?:-([1-9][0-9]{{0,3}}))?\.([a-z0-9]{{1,8}})")
REMOVED: Final = {
    Part.MEDIA: "the files of this job were removed",
    Part.METADATA: "the metadata document of this job was removed",
}
IMMUTABLE: Final = "public, max-age=31536000, immutable"
PRIVATE: Final = "private, max-age=3600"  # once callers need keys

BYTES: Final[dict[str, Any]] = {
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "*/*": {"schema": {"type": "string", "contentMediaType": "*/*"}},
    },
    "headers": {
        "ETag": {"description": "The SHA-256 of the file.", "schema": {"type": "string"}},
        "Content-Disposition": {"schema": {"type": "string"}},
    },
}
FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {**BYTES, "description": "The file."},
    206: {**BYTES, "description": "The requested range."},
    304: {"description": "The caller has the current version."},
    416: {
        "description": "The range starts after the end of the file.",
        "content": {
            PROBLEM_JSON: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": problem(
                    416,
                    "range_not_satisfiable",
                    "The range starts after the end of the file.",
                    request_id="b3c1f0a9d2e84c57",
                ).model_dump(mode="json"),
            }
        },
    },
}
ELSEWHERE: Final[dict[int | str, dict[str, Any]]] = {
    302: {
        "description": "The address of the file in the storage. It is valid for at least as long as "
        "`Cache-Control` allows."
    },
}

AsFile = Annotated[
    bool,
    Query(description="`false`: send the file itself, wherever it is stored."),
    StrictBool,
]
ThumbnailSize = Annotated[
    Literal["320", "960"] | None,
    Query(description="A small picture instead, with a longer side of this many pixels."),
]

router = strict_router(tag="media")


@router.get(
    "/media/{name}",
    scope=Scope.MEDIA_READ,
    operation_id="get_media",
    summary="Get a file",
    response_class=Response,
    responses=FILE | ELSEWHERE | problems(NotFound, Gone, DatabaseUnavailable, StorageError),
)
async def get_media(
    name: Annotated[str, Path(description="`{job_id}.{ext}`, or `{job_id}-{index}.{ext}`.")],
    rt: RuntimeDep,
    request: Request,
    exp: Annotated[  # noqa: ARG001 - see `fleek.api.access`
        str | None, Query(description="End of a signed address, in seconds since 1970.")
    ] = None,
    sig: Annotated[  # noqa: ARG001 - likewise
        str | None, Query(description="Signature of the address, in place of a key.")
    ] = None,
    *,
    redirect: AsFile = True,
    size: ThumbnailSize = None,
) -> Response:
    """Return a file under its public name. It never changes, and may be cached for ever.

    With `size`, return a small picture of it as WebP; 404 `not_found` if there is none of such a file.

    Once callers need keys, an address that the API has given out is signed, and is valid for an hour
    without a key. A storage that serves its files itself, such as S3, is where the caller is sent.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise NotFound("no such file")
    tenant_id = caller(request).tenant_id
    media = await _media(rt, JobId(UUID(found[1])), tenant_id, index=int(found[2] or 0))
    if media.extension != found[3]:
        raise NotFound("no such file")
    if size is not None:
        return await _small(rt, request, media, int(size))
    inline = media.content_type in SAFE_INLINE
    headers = _headers(media, inline=inline) | {
        "Cache-Control": PRIVATE if rt.keys.required else IMMUTABLE
    }
    if redirect and request.method == "GET":  # an address is signed for this method alone
        link = await rt.storage.url(media.key)
        if link is not None:
            return _elsewhere(link)
    async with _kept(rt, media.job_id, tenant_id, Part.MEDIA):
        return await _serve(rt.storage, media, request, headers)


@router.get(
    "/api/v1/download/{job_id}",
    scope=Scope.MEDIA_READ,
    operation_id="download_media",
    summary="Download a file",
    response_class=Response,
    responses=FILE | problems(NotFound, Conflict, Gone, DatabaseUnavailable, StorageError),
)
async def download(
    job_id: JobIdPath,
    rt: RuntimeDep,
    request: Request,
    index: Annotated[
        int, Query(ge=0, le=9999, description="Index of the output, from 0."), StrictInt
    ] = 0,
) -> Response:
    """Return an output of a completed job as an attachment."""
    tenant_id = caller(request).tenant_id
    media = await _media(rt, job_id, tenant_id, index=index)
    headers = _headers(media, inline=False) | {"Cache-Control": "no-cache"}
    async with _kept(rt, media.job_id, tenant_id, Part.MEDIA):
        return await _serve(rt.storage, media, request, headers)


@router.get(
    "/api/v1/jobs/{job_id}/metadata",
    scope=Scope.JOBS_READ,
    operation_id="get_job_metadata",
    summary="Get the metadata document of a job",
    response_description="The metadata document.",
    response_model=dict[str, Any],
    responses=problems(NotFound, Conflict, Gone, DatabaseUnavailable, StorageError),
)
async def get_metadata(job_id: JobIdPath, rt: RuntimeDep, request: Request) -> Response:
    """Return the JSON document that is stored beside the media of a completed job."""
    tenant_id = caller(request).tenant_id
    job = await _completed(rt, job_id, tenant_id, Part.METADATA)
    if job.job.reused_from is not None:  # its row says all that there is
        return Response(strict.dumps(document(job.job, job.media)), media_type="application/json")
    async with _kept(rt, job_id, tenant_id, Part.METADATA):
        parts = [part async for part in rt.storage.read(metadata_key(job_id))]
    return Response(b"".join(parts), media_type="application/json")


async def _completed(rt: Runtime, job_id: JobId, tenant_id: str, part: Part) -> JobView:
    view = await jobs.get(rt.db, job_id, tenant_id=tenant_id)
    if purged(view.job, part):
        raise Gone(REMOVED[part])
    if view.job.status is not Status.COMPLETED:
        raise Conflict(f"the job is {view.job.status.value}", code="not_completed")
    return view


@asynccontextmanager
async def _kept(rt: Runtime, job_id: JobId, tenant_id: str, part: Part) -> AsyncIterator[None]:
    """Tell a file that was purged while we looked for it from one that is not there."""
    try:
        yield
    except NotFound:
        await _completed(rt, job_id, tenant_id, part)
        raise


async def _media(rt: Runtime, job_id: JobId, tenant_id: str, *, index: int) -> Media:
    for media in (await _completed(rt, job_id, tenant_id, Part.MEDIA)).media:
        if media.index == index:
            return media
    raise NotFound("the job has no output with this index")


def _headers(media: Media, *, inline: bool) -> dict[str, str]:
    """Return headers that keep a file from running in a browser.

    Pictures may be shown by pages of other sites, which is what they are for; a file that is no
    plain picture, sound or film may not even be loaded by them.
    """
    return {
        **presentation(media.content_type, name=media_name(media), save=not inline),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "cross-origin" if inline else "same-site",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "ETag": f'"{media.sha256}"',
    }


async def _small(rt: Runtime, request: Request, media: Media, size: int) -> Response:
    """Return a small picture: it shows an untrusted file, but a program of ours has made it."""
    headers = {
        "Cache-Control": PRIVATE if rt.keys.required else IMMUTABLE,
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "ETag": f'"{media.sha256}-{size}"',
    }
    if unchanged(request.headers, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    data = await rt.thumbnails.read(rt, media, size)
    return Response(data, headers=headers, media_type="image/webp")


def _elsewhere(link: Link) -> Response:
    """Send the caller there; a cache may keep the answer for as long as the address will do."""
    seconds = int(link.fresh.total_seconds())
    caching = f"private, max-age={seconds}" if seconds else "no-store"
    headers = {"Cache-Control": caching, "Referrer-Policy": "no-referrer"}
    return RedirectResponse(link.address, 302, headers=headers)


async def _serve(
    storage: Storage, media: Media, request: Request, headers: dict[str, str]
) -> Response:
    if unchanged(request.headers, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        await storage.stat(media.key)
        return Response(headers=headers | {"Content-Length": str(media.size_bytes)})
    part = requested(request.headers, etag=headers["ETag"], size=media.size_bytes)
    span = part or ByteRange(0, media.size_bytes)
    stream = storage.read(media.key, start=span.start, end=span.stop)
    first = await anext(stream, b"")  # what can fail, fails before the answer begins
    headers["Content-Length"] = str(span.stop - span.start)
    if part is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{media.size_bytes}"
    return StreamingResponse(
        _chained(first, stream), 200 if part is None else 206, headers=headers
    )


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
