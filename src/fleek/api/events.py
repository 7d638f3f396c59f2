"""Version 1: the history of a job, and its events as they happen."""

from collections.abc import AsyncGenerator, Iterator
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Header, Response
from fastapi.requests import Request

from fleek.api.deps import JobIdPath, addresses, caller, hub, runtime
from fleek.api.errors import problems
from fleek.api.hub import Hub
from fleek.api.routing import router as strict_router
from fleek.api.sse import (
    COMMENT,
    QUIET_SECONDS,
    EventStream,
    chunks,
    described,
    event_data,
    frame,
    hello,
    last_seq,
    prefers_json,
)
from fleek.api.streams import Stream
from fleek.domain.access import Scope
from fleek.domain.errors import (
    BadEventId,
    DatabaseUnavailable,
    FleekError,
    NotFound,
    TooManyStreams,
)
from fleek.domain.job import Job
from fleek.engine.runtime import Runtime
from fleek.schemas import job_json
from fleek.schemas.events import PUBLIC, AttemptRead, HistoryEvent, JobHistory
from fleek.store import attempts, events, jobs
from fleek.store.events import Event
from fleek.store.jobs import JobView

DONE: Final = frame("done", b"{}")  # after the last event of a job
EXAMPLE: Final = (
    "retry: 2000\n"
    'event: hello\ndata: {"version":"0.1.0","server_time":"2026-11-21T09:00:00Z"}\n\n'
    'id: 5\nevent: job.completed\ndata: {"seq":5,"at":"2026-11-21T09:00:02.5Z","id":"0198f3c2-…"}\n\n'
    "event: done\ndata: {}\n\n"
)
AS_JSON: Final = {"schema": {"$ref": "#/components/schemas/JobHistory"}}
SENT: Final = described(EXAMPLE, "Server-sent events, or the history.")
STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: SENT | {"content": {**SENT["content"], "application/json": AS_JSON}},
    204: {"description": "The job has ended, and `Last-Event-ID` is its last event: stop asking."},
}

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="Id of the last event that was received: those after it follow. Browsers send "
        "it by themselves when they reconnect.",
        json_schema_extra={"pattern": "^[0-9]{1,10}$"},
    ),
]
"""Declares the header for a route; `last_seq` reads it."""

router = strict_router("/api/v1", tag="events")


@router.get(
    "/jobs/{job_id}/history",
    scope=Scope.JOBS_READ,
    operation_id="get_job_history",
    summary="Get the history of a job",
    response_description="The history.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def get_job_history(job_id: JobIdPath, request: Request) -> JobHistory:
    """Return what happened to a job so far, in order, with its attempts."""
    rt = runtime(request)
    view = await jobs.get(rt.db, job_id, tenant_id=caller(request).tenant_id)
    lines = await events.of_job(rt.db, view.job.id)
    made = await attempts.of_job(rt.db, view.job.id)
    return JobHistory(
        events=[
            HistoryEvent.from_line(line.seq, line.type, line.at, line.data)
            for line in lines
            if line.type in PUBLIC
        ],
        attempts=[AttemptRead.from_attempt(attempt) for attempt in made],
    )


@router.get(
    "/jobs/{job_id}/events",
    scope=Scope.JOBS_READ,
    operation_id="stream_job_events",
    summary="Follow a job",
    response_class=Response,
    response_description="Server-sent events.",
    responses=STREAM | problems(BadEventId, NotFound, TooManyStreams, DatabaseUnavailable),
)
async def stream_job_events(
    job_id: JobIdPath, request: Request, _last: LastEventId = None
) -> Response:
    """Send the events of a job from its beginning, or after `Last-Event-ID`, as they happen.

    The first event is `hello`. The data of an event of the job is the job as it is when the event
    is sent, with the number (`seq`) and the time (`at`) of the event. After the last event of a job
    that has ended comes `done`, and the stream ends. It also ends after an hour: open it again with
    `Last-Event-ID`, as browsers do. With `Accept: application/json` the response is the history.
    """
    if prefers_json(request):
        history = await get_job_history(job_id, request)
        return Response(history.model_dump_json(), media_type="application/json")
    rt, after = runtime(request), last_seq(request)
    view = await jobs.get(rt.db, job_id, tenant_id=caller(request).tenant_id)
    if after is not None and await _is_over(rt, view.job, after=after):
        return Response(status_code=204)
    return EventStream(request, partial(_follow, rt, hub(request), view.job, after or 0))


async def _is_over(rt: Runtime, job: Job, *, after: int) -> bool:
    if not job.terminal:
        return False
    left = await events.of_job(rt.db, job.id, after=after)
    return not any(line.type in PUBLIC for line in left)


async def _follow(
    rt: Runtime, hub: Hub, job: Job, after: int, stream: Stream
) -> AsyncGenerator[bytes]:
    """Give the events of a job after number `after`, until it has ended."""
    yield hello(rt)
    after = min(after, job.version)  # or an id that was made up would hide what comes
    with hub.watch(job.id, stream.bell):
        while not stream.closed:
            try:
                lines = await events.of_job(rt.db, job.id, after=after)
                view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)
            except NotFound:  # its retention has ended
                yield DONE
                return
            except FleekError:  # the caller comes back, and goes on behind what it has
                return
            after = lines[-1].seq if lines else after
            for chunk in chunks(frames(rt, view, lines)):
                yield chunk
            if after < view.job.version:
                continue
            if view.job.terminal:
                yield DONE
                return
            if not lines:
                yield COMMENT
            await stream.bell.wait(seconds=QUIET_SECONDS)


def frames(rt: Runtime, view: JobView, lines: list[Event]) -> Iterator[bytes]:
    """Give the events that these lines of a job's history are, each with the job."""
    public = [line for line in lines if line.type in PUBLIC]
    if not public:
        return
    job = job_json(view.job, view.media, addresses(rt))
    for line in public:
        yield frame(PUBLIC[line.type], event_data(line, job), event_id=str(line.seq))
