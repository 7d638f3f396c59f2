"""Routes of videos: create, read, list, delete, and their files."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Query
from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response

from fleek.api import media
from fleek.api.deps import JOB_ID, actor, caller, runtime
from fleek.api.facades.forms import read_form
from fleek.api.facades.openai.errors import reason, refused
from fleek.api.facades.openai.images import PREFIX
from fleek.api.facades.openai.options import find_target, translate
from fleek.api.facades.openai.requests import METADATA, Fields, accept
from fleek.api.facades.polling import held
from fleek.api.facades.routes import FacadeRouter
from fleek.api.request_body import read_json
from fleek.domain.access import Scope
from fleek.domain.errors import NotFound
from fleek.domain.job import Job, JobFilter, JobId, Status
from fleek.domain.media import Media
from fleek.engine.purge import purge
from fleek.engine.uploads import accept_upload
from fleek.store import jobs, listing
from fleek.store.jobs import JobView

TAG: Final = "openai-video"
DEFAULT_MODEL: Final = "sora-2"
OPTIONS: Final = ("seconds", "size")
ID: Final = re.compile(rf"(?:video_)?({JOB_ID.pattern})")
REFERENCE: Final = re.compile(r"input_reference\[(\w+)\]")
STATUSES: Final = {
    Status.PENDING: "queued",
    Status.PROCESSING: "in_progress",
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "failed",
}
POLL_HELPER: Final = "x-stainless-poll-helper"
POLL_HOLD_SECONDS: Final = 1.0  # how long a client's own loop is held
POLL_AFTER_MS: Final = "500"  # clients keep the first value that they get
MOST: Final = 100  # in a list
MOST_READS: Final = 50  # for one page

router = FacadeRouter(PREFIX)


@router.route("POST", "/videos", scope=Scope.JOBS_WRITE)
async def create(request: Request) -> Response:
    """Create a job that makes a video."""
    rt = runtime(request)
    fields = await _fields(request)
    prompt = fields.prompt("prompt")
    said = {"model": fields.text("model") or DEFAULT_MODEL}
    given = fields.rest()
    said |= {name: str(given[name]) for name in ("seconds", "size") if given.get(name) is not None}
    target = await find_target(rt, said["model"])
    done = translate(target, given, options=OPTIONS)
    accepted = await accept(request, prompt, target, done, said=said, tag=TAG)
    view = JobView(accepted.job, ())
    if accepted.replayed:
        view = await jobs.get(rt.db, accepted.job.id, tenant_id=accepted.job.tenant_id)
    return _answer(view, done.headers())


async def _fields(request: Request) -> Fields:
    """Return the fields of a form or of JSON, with a reference to a file in the place of the file."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        body = await (await read_json(request)).json()
        if not isinstance(body, dict):
            raise refused("body", "must be an object")
        nested = body.pop("input_reference", None)
        return Fields({**body, "input_reference": _reference(nested)})
    take = partial(accept_upload, runtime(request), tenant_id=caller(request).tenant_id)
    form = await read_form(request, take, files=frozenset({"input_reference"}))
    given: dict[str, Any] = {}
    parts: dict[str, str] = {}
    for name, value in form.fields:
        part = REFERENCE.fullmatch(name)
        (given if part is None else parts)[name if part is None else part[1]] = value
    if len(form.files) + bool(parts) > 1:
        raise refused("input_reference", "may be given once")
    file = form.files[0].upload.reference if form.files else _reference(parts or None)
    return Fields({**given, "input_reference": file})


def _reference(value: Any) -> str | None:
    """Return the address of a file; None: there is none."""
    if value is None:
        return None
    if isinstance(value, Mapping) and isinstance(value.get("image_url"), str) and len(value) == 1:
        return str(value["image_url"])
    raise refused("input_reference", "must be a file, or an object with image_url alone")


@router.route("GET", "/videos/{video_id}", scope=Scope.JOBS_READ)
async def retrieve(video_id: str, request: Request) -> Response:
    """Return a video; a client that polls in a loop is held for a while."""
    view = await _view(request, video_id)
    least = POLL_HOLD_SECONDS if POLL_HELPER in request.headers else 0.0
    return _answer(await held(request, view, least=least))


async def _view(request: Request, video_id: str) -> JobView:
    found = ID.fullmatch(video_id)
    if found is None:
        raise NotFound("there is no such video")
    tenant_id = caller(request).tenant_id
    view = await jobs.get(runtime(request).db, JobId(UUID(found[1])), tenant_id=tenant_id)
    if view.job.purged_at is not None:
        raise NotFound("there is no such video: it was deleted")
    return view


def _answer(view: JobView, headers: Mapping[str, str] | None = None) -> Response:
    more = {} if view.job.terminal else {"openai-poll-after-ms": POLL_AFTER_MS}
    return JSONResponse(
        present(view.job, view.media),
        headers={"X-Fleek-Job": str(view.job.id), **more, **(headers or {})},
    )


def present(job: Job, files: Sequence[Media]) -> Mapping[str, Any]:
    """Return the video that a job is."""
    noted = job.metadata.get(METADATA)
    said: Mapping[str, Any] = noted if isinstance(noted, Mapping) else {}
    first = next(iter(files), None)
    ended_well = job.status is Status.COMPLETED
    failed = STATUSES[job.status] == "failed"
    code, message = reason(job) if failed else ("", "")
    return {
        "id": f"video_{job.id}",
        "object": "video",
        "model": said.get("model", job.model),
        "status": STATUSES[job.status],
        "progress": 100 if ended_well else int(100 * (job.progress or 0.0)),
        "created_at": int(job.created_at.timestamp()),
        "completed_at": job.completed_at and int(job.completed_at.timestamp()),
        "expires_at": None,
        "prompt": job.prompt,
        "seconds": said.get("seconds", _seconds(first)),
        "size": said.get("size", _size(first)),
        "error": {"code": code, "message": message} if failed else None,
        "remixed_from_video_id": None,
    }


def _seconds(file: Media | None) -> str:
    seconds = None if file is None else file.duration_seconds
    return "" if seconds is None else f"{seconds:g}"


def _size(file: Media | None) -> str:
    return "" if file is None or file.width is None else f"{file.width}x{file.height}"


@router.route("GET", "/videos", scope=Scope.JOBS_READ)
async def list_all(
    request: Request,
    after: Annotated[str | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 20,
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
) -> Response:
    """Return the videos that were created here, without the deleted ones."""
    found = ID.fullmatch(after or "")
    if after is not None and found is None:
        raise refused("after", "must be the id of a video")
    kept, further = await _page(
        request,
        JobFilter(tag=TAG, oldest_first=order == "asc"),
        limit=limit,
        after=None if found is None else JobId(UUID(found[1])),
    )
    shown = [present(view.job, view.media) for view in kept]
    body = {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": further,
    }
    return JSONResponse(body)


async def _page(
    request: Request, wanted: JobFilter, *, limit: int, after: JobId | None
) -> tuple[list[JobView], bool]:
    """Return the jobs of a page that were not deleted, and whether there are more.

    Clients take an empty page for the end, so it is filled.
    """
    kept: list[JobView] = []
    for _ in range(MOST_READS):
        page = await listing.page(
            runtime(request).db,
            wanted,
            tenant_id=caller(request).tenant_id,
            limit=limit - len(kept),
            after=after,
        )
        kept += [view for view in page.views if view.job.purged_at is None]
        after = page.after
        if after is None or len(kept) == limit:
            break
    return kept, after is not None


@router.route("DELETE", "/videos/{video_id}", scope=Scope.JOBS_WRITE)
async def delete(video_id: str, request: Request) -> Response:
    """Delete a video and its files; one that is being made is cancelled."""
    view = await _view(request, video_id)
    job = view.job
    await purge(runtime(request), job.id, tenant_id=job.tenant_id, by=actor(request))
    return JSONResponse({"id": f"video_{job.id}", "object": "video.deleted", "deleted": True})


@router.route("GET", "/videos/{video_id}/content", scope=Scope.MEDIA_READ)
async def content(
    video_id: str, request: Request, variant: Annotated[str, Query()] = "video"
) -> Response:
    """Return the file of a video."""
    if variant != "video":
        raise refused("variant", "must be video: there are no other files")
    view = await _view(request, video_id)
    return await media.download(view.job.id, runtime(request), request)
