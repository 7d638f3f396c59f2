"""Routes of predictions: create, read, list and cancel them."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query
from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response

from fleek.api.deps import JobIdPath, addresses, caller, runtime
from fleek.api.facades.outputs import is_text, text_of
from fleek.api.facades.polling import held
from fleek.api.facades.repeats import create_once
from fleek.api.facades.replicate.create import PredictionCreate, refused, wanted_job
from fleek.api.facades.replicate.prediction import PREFIX, present
from fleek.api.facades.routes import FacadeRouter
from fleek.api.job_logs import whole
from fleek.api.waiting import preferred_seconds, waited_for_end
from fleek.domain.access import Scope
from fleek.domain.errors import Conflict
from fleek.domain.job import JobFilter, JobId, Status
from fleek.domain.media import Part, purged
from fleek.engine.cancel import cancel
from fleek.engine.runtime import Runtime
from fleek.schemas.create import read_time
from fleek.store import job_logs, jobs, listing
from fleek.store.jobs import JobView

PAGE: Final = 100
SOONER: Final = 0.5  # seconds: clients stop listening soon after the time they asked for
CURSOR: Final = re.compile(r"[0-9a-f]{32}")

router = FacadeRouter(PREFIX, "/replicate")


@router.route("POST", "/predictions", scope=Scope.JOBS_WRITE)
async def create(body: PredictionCreate, request: Request) -> Response:
    """Create a prediction of a version."""
    return await _created(body, request)


@router.route("POST", "/models/{owner}/{name}/predictions", scope=Scope.JOBS_WRITE)
async def create_of_model(
    owner: str, name: str, body: PredictionCreate, request: Request
) -> Response:
    """Create a prediction of a model."""
    return await _created(body, request, model=f"{owner}/{name}")


@router.route("POST", "/deployments/{owner}/{name}/predictions", scope=Scope.JOBS_WRITE)
async def create_of_deployment(
    owner: str, name: str, body: PredictionCreate, request: Request
) -> Response:
    """Create a prediction of a deployment, at a provider that has those."""
    return await _created(body, request, model=f"{owner}/{name}:deployment")


async def _created(
    body: PredictionCreate, request: Request, *, model: str | None = None
) -> Response:
    """Create a prediction, and wait for its end if the caller prefers to.

    Clients take every status but "starting" for an end: that is what they get if the wait was in vain.
    """
    rt = runtime(request)
    accepted = await create_once(request, await wanted_job(request, body, model=model))
    view = JobView(accepted.job, ())
    if accepted.replayed:
        view = await jobs.get(rt.db, accepted.job.id, tenant_id=accepted.job.tenant_id)
    seconds = preferred_seconds(request.headers.getlist("prefer"))
    if seconds is not None:
        view, _ = await waited_for_end(request, view, seconds=seconds - SOONER)
    shown = await presented(rt, view)
    in_vain = seconds is not None and not view.job.terminal
    headers = {"Location": shown["urls"]["get"]}
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    if in_vain:
        shown |= {"status": "starting", "output": None}
    return JSONResponse(shown, 202 if in_vain else 201, headers=headers)


async def presented(rt: Runtime, view: JobView) -> dict[str, Any]:
    """Return a prediction with its logs, and with what it has said if it made text."""
    job, media = view.job, view.media
    output: Any = None
    if job.status is Status.COMPLETED and media and all(map(is_text, media)):
        found = [await text_of(rt, each) for each in media]
        if None not in found:
            output = [_value(each, str(text)) for each, text in zip(media, found, strict=True)]
            output = output[0] if len(output) == 1 and not isinstance(output[0], str) else output
    logs = "" if purged(job, Part.METADATA) else whole(await job_logs.of_job(rt.db, job.id))
    return present(job, media, addresses(rt), logs=logs, output=output)


def _value(media: Any, text: str) -> Any:
    if media.content_type == "application/json":
        with suppress(ValueError):
            return json.loads(text)
    return text


@router.route("GET", "/predictions/{job_id}", scope=Scope.JOBS_READ)
async def get(job_id: JobIdPath, request: Request) -> Response:
    """Return a prediction."""
    rt = runtime(request)
    view = await jobs.get(rt.db, job_id, tenant_id=caller(request).tenant_id)
    return JSONResponse(await presented(rt, await held(request, view)))


@router.route("GET", "/predictions", scope=Scope.JOBS_READ)
async def list_all(
    request: Request,
    cursor: Annotated[str | None, Query()] = None,
    created_after: Annotated[str | None, Query()] = None,
    created_before: Annotated[str | None, Query()] = None,
) -> Response:
    """Return predictions, the latest first."""
    rt, here = runtime(request), addresses(runtime(request))
    times = {"created_after": created_after, "created_before": created_before}
    if cursor is not None and CURSOR.fullmatch(cursor) is None:
        raise refused("cursor", "must be that of the previous page")
    page = await listing.page(
        rt.db,
        JobFilter(**{name: _time(name, value) for name, value in times.items()}),  # type: ignore[arg-type]  # times
        tenant_id=caller(request).tenant_id,
        limit=PAGE,
        after=None if cursor is None else JobId(UUID(cursor)),
    )
    following = None
    if page.after is not None:
        given = {name: value for name, value in times.items() if value is not None}
        query = urlencode({"cursor": page.after.hex, **given})
        following = f"{here.public}{PREFIX}/predictions?{query}"
    results = [present(view.job, view.media, here) for view in page.views]
    return JSONResponse(page_of(results, following))


def page_of(results: list[Any], following: str | None = None) -> Mapping[str, Any]:
    """Return a page of a list."""
    return {"previous": None, "next": following, "results": results}


def _time(name: str, value: str | None) -> datetime | None:
    try:
        return read_time(value)  # type: ignore[return-value]  # a time or None
    except ValueError as error:
        raise refused(name, str(error)) from error


@router.route("POST", "/predictions/{job_id}/cancel", scope=Scope.JOBS_WRITE)
async def cancel_one(job_id: JobIdPath, request: Request) -> Response:
    """Cancel a prediction, and return it; one that has ended stays as it is."""
    rt, tenant_id = runtime(request), caller(request).tenant_id
    with suppress(Conflict):
        await cancel(rt, job_id, tenant_id=tenant_id)
    view = await jobs.get(rt.db, job_id, tenant_id=tenant_id)
    return JSONResponse(await presented(rt, view))
