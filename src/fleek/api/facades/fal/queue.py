"""Routes of the queue: submit a request, ask for its status and its result, cancel it."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import Body, Query
from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response

from fleek import strict
from fleek.api.deps import JobIdPath, addresses, caller, hub, queue_positions, runtime
from fleek.api.facades.fal.result import failure, result, status, urls
from fleek.api.facades.fal.submit import submission
from fleek.api.facades.outputs import is_text, text_of
from fleek.api.facades.polling import held
from fleek.api.facades.repeats import create_once
from fleek.api.facades.routes import FacadeRouter
from fleek.api.hub import Hub
from fleek.api.job_logs import whole
from fleek.api.sse import COMMENT, QUIET_SECONDS, EventStream
from fleek.api.streams import Stream
from fleek.domain.access import Scope
from fleek.domain.errors import Conflict, FleekError
from fleek.domain.job import Job, Status
from fleek.domain.media import Part, purged
from fleek.engine.cancel import cancel
from fleek.engine.runtime import Runtime
from fleek.store import job_logs, jobs
from fleek.store.jobs import JobView

HOLD_SECONDS: Final = 1.0  # a status: Python's client asks ten times a second
ONE: Final = "/{app:path}/requests/{job_id}"

Logs = Annotated[Literal["1", "0", "true", "false"], Query()]
Arguments = Annotated[dict[str, Any], Body()]

router = FacadeRouter("/fal-queue")


@router.route("POST", "/{app:path}", scope=Scope.JOBS_WRITE)
async def submit(
    app: str,
    arguments: Arguments,
    request: Request,
    fal_webhook: Annotated[str | None, Query(max_length=2048)] = None,
) -> Response:
    """Accept a request; it waits in the queue."""
    asked = await submission(request, app, arguments, webhook=fal_webhook)
    accepted = await create_once(request, asked.wanted)
    here = addresses(runtime(request))
    body = {
        "status": "IN_QUEUE",
        "request_id": str(accepted.job.id),
        "gateway_request_id": str(accepted.job.id),
        **urls(accepted.job, here),
        "queue_position": await _position(request, accepted.job),
    }
    return JSONResponse(body, headers=noted(accepted.job, asked.ignored))


def noted(job: Job, ignored: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the headers of a response about a request; `ignored`: what of it had no effect."""
    headers = {"x-fal-request-id": str(job.id)}
    return headers | ({"X-Fleek-Ignored": ", ".join(ignored)} if ignored else {})


async def _position(request: Request, job: Job) -> int:
    return await queue_positions(request).position(runtime(request), job) or 0


@router.route("GET", f"{ONE}/status", scope=Scope.JOBS_READ)
async def get_status(
    app: str,  # noqa: ARG001 - the id suffices
    job_id: JobIdPath,
    request: Request,
    logs: Logs = "0",
) -> Response:
    """Return the status of a request, after a second unless it has ended."""
    rt = runtime(request)
    view = await jobs.get(rt.db, job_id, tenant_id=caller(request).tenant_id)
    view = await held(request, view, least=HOLD_SECONDS)
    shown = await _status(request, view, logs=logs in {"1", "true"})
    return JSONResponse(shown, 200 if view.job.terminal else 202, headers=noted(view.job))


async def _status(request: Request, view: JobView, *, logs: bool) -> dict[str, Any]:
    rt, job = runtime(request), view.job
    text = None
    if logs:
        text = "" if purged(job, Part.METADATA) else whole(await job_logs.of_job(rt.db, job.id))
    return status(job, addresses(rt), position=await _position(request, job), logs=text)


@router.route("GET", f"{ONE}/status/stream", scope=Scope.JOBS_READ)
async def stream_status(
    app: str,  # noqa: ARG001 - the id suffices
    job_id: JobIdPath,
    request: Request,
    logs: Logs = "0",
) -> Response:
    """Send the status of a request whenever it changes, until it has ended."""
    view = await jobs.get(runtime(request).db, job_id, tenant_id=caller(request).tenant_id)
    show = partial(_status, request, logs=logs in {"1", "true"})
    return EventStream(request, partial(_follow, runtime(request), hub(request), view.job, show))


async def _follow(
    rt: Runtime, hub: Hub, job: Job, show: Any, stream: Stream
) -> AsyncGenerator[bytes]:
    sent: dict[str, Any] = {}
    with hub.watch(job.id, stream.bell):
        while not stream.closed:
            try:
                view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)
                shown = await show(view)
            except FleekError:  # the caller comes back
                return
            yield COMMENT if shown == sent else b"data: " + strict.dumps(shown) + b"\n\n"
            sent = shown
            if view.job.terminal:
                return
            await stream.bell.wait(seconds=QUIET_SECONDS)


@router.route("GET", ONE, scope=Scope.JOBS_READ)
@router.route("GET", f"{ONE}/response", scope=Scope.JOBS_READ)
async def get_result(
    app: str,  # noqa: ARG001 - the id suffices
    job_id: JobIdPath,
    request: Request,
) -> Response:
    """Return what a request has made; a failure is this response, too."""
    view = await jobs.get(runtime(request).db, job_id, tenant_id=caller(request).tenant_id)
    return await outcome(request, view)


async def outcome(request: Request, view: JobView, ignored: tuple[str, ...] = ()) -> Response:
    """Return the result or the failure of a job; one that has not ended is too early to ask for."""
    rt, job = runtime(request), view.job
    headers = noted(job, ignored)
    if not job.terminal:
        detail = {"detail": "Request is still in progress"}
        return JSONResponse(detail, 400, headers=headers)
    if job.status is not Status.COMPLETED:
        code, body = failure(job)
        return JSONResponse(body, code, headers=headers)
    if purged(job, Part.MEDIA):
        return JSONResponse({"detail": "The files were removed"}, 410, headers=headers)
    text = None
    if view.media and is_text(view.media[0]):
        text = await text_of(rt, view.media[0])
    return JSONResponse(result(job, view.media, addresses(rt), text=text), headers=headers)


@router.route("PUT", f"{ONE}/cancel", scope=Scope.JOBS_WRITE)
async def cancel_one(
    app: str,  # noqa: ARG001 - the id suffices
    job_id: JobIdPath,
    request: Request,
) -> Response:
    """Cancel a request that has not ended."""
    rt = runtime(request)
    try:
        job, by_this_call = await cancel(rt, job_id, tenant_id=caller(request).tenant_id)
    except Conflict:
        return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)
    if not by_this_call:
        return JSONResponse({"status": "ALREADY_COMPLETED"}, 400, headers=noted(job))
    return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202, headers=noted(job))
