"""Version 1: what providers log of a job's predictions, as text and as it comes."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Query, Response
from fastapi.requests import Request

from fleek.api.deps import JobIdPath, StrictBool, caller, hub, runtime
from fleek.api.errors import problems
from fleek.api.events import DONE, LastEventId
from fleek.api.hub import Hub
from fleek.api.routing import router as strict_router
from fleek.api.sse import (
    COMMENT,
    QUIET_SECONDS,
    EventStream,
    chunks,
    described,
    frame,
    hello,
    last_seq,
)
from fleek.api.streams import Stream
from fleek.domain.access import Scope
from fleek.domain.errors import (
    BadEventId,
    DatabaseUnavailable,
    FleekError,
    Gone,
    NotFound,
    TooManyStreams,
)
from fleek.domain.job import Job
from fleek.domain.media import Part, purged
from fleek.domain.provider_logs import MAX_BYTES
from fleek.engine.runtime import Runtime
from fleek.schemas.events import LogText
from fleek.store import job_logs, jobs
from fleek.store.job_logs import LogPiece

REMOVED: Final = f"[Fleek: only the last {MAX_BYTES // 1024} KiB are kept]\n"
TEXT: Final = "text/plain; charset=utf-8"
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
LOOK_SECONDS: Final = 1.0  # between two looks for what has come: no event says so
EXAMPLE: Final = 'id: 1\nevent: log\ndata: {"attempt":1,"text":"Using seed: 42\\n"}\n\nevent: done\ndata: {}\n\n'
AS_TEXT: Final = {
    "schema": {"type": "string"},
    "example": "Using seed: 42\n100%|██████████| 4/4\n",
}
SENT: Final = described(EXAMPLE, "The logs, or server-sent events.")
LOGGED: Final[dict[int | str, dict[str, Any]]] = {
    200: SENT | {"content": {"text/plain": AS_TEXT, **SENT["content"]}},
    204: {"description": "The job has ended, and `Last-Event-ID` is its last piece: stop asking."},
}

router = strict_router("/api/v1", tag="events")


@router.get(
    "/jobs/{job_id}/logs",
    scope=Scope.JOBS_READ,
    operation_id="get_job_logs",
    summary="Get the logs of a job",
    response_class=Response,
    response_description="The logs.",
    responses=LOGGED | problems(BadEventId, NotFound, Gone, TooManyStreams, DatabaseUnavailable),
)
async def get_job_logs(
    job_id: JobIdPath,
    request: Request,
    _last: LastEventId = None,
    *,
    follow: Annotated[
        bool,
        Query(description="`true`: send what comes as it comes, as server-sent events."),
        StrictBool,
    ] = False,
) -> Response:
    """Return what the model has printed so far, in all attempts, as the provider tells it.

    The last 256 KiB are kept, until the metadata document of the job is purged. Lines in brackets that
    begin with `Fleek` say where another attempt begins, and where a part is missing. Not all providers
    have logs. With `follow=true`, each event `log` has a piece of the text, and `done` follows the last one.
    """
    rt, after = runtime(request), last_seq(request)
    view = await jobs.get(rt.db, job_id, tenant_id=caller(request).tenant_id)
    if purged(view.job, Part.METADATA):
        raise Gone("the logs of this job were removed")
    if not follow:
        text = whole(await job_logs.of_job(rt.db, view.job.id))
        return Response(text, media_type=TEXT, headers=HEADERS)
    latest = await job_logs.latest(rt.db, view.job.id)
    if after is not None and view.job.terminal and after >= latest:
        return Response(status_code=204)
    place = min(after or 0, latest)  # or an id that was made up would hide what comes
    return EventStream(request, partial(_follow, rt, hub(request), view.job, place))


def whole(pieces: Iterable[LogPiece]) -> str:
    """Return the text of all pieces, with a line where something is missing or an attempt begins."""
    parts, attempt, seq = [], 1, 0
    for piece in pieces:
        if piece.seq > seq + 1:
            parts.append(REMOVED)
        if piece.attempt != attempt:
            parts.append(f"[Fleek: attempt {piece.attempt}]\n")
        parts.append(piece.text)
        attempt, seq = piece.attempt, piece.seq
    return "".join(parts)


async def _follow(
    rt: Runtime, hub: Hub, job: Job, after: int, stream: Stream
) -> AsyncGenerator[bytes]:
    """Give the pieces of a job's logs after number `after`, until it has ended."""
    yield hello(rt)
    sent = rt.steady()
    with hub.watch(job.id, stream.bell):
        while not stream.closed:
            try:
                view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)
                found = await job_logs.of_job(rt.db, job.id, after=after)
            except NotFound:  # its retention has ended
                yield DONE
                return
            except FleekError:  # the caller comes back, and goes on behind what it has
                return
            for chunk in chunks(_frames(found, after)):
                yield chunk
                sent = rt.steady()
            after = found[-1].seq if found else after
            if view.job.terminal:
                yield DONE
                return
            if rt.steady() - sent >= QUIET_SECONDS:
                yield COMMENT
                sent = rt.steady()
            await stream.bell.wait(seconds=LOOK_SECONDS)


def _frames(pieces: Iterable[LogPiece], after: int) -> Iterator[bytes]:
    for piece in pieces:
        text = (REMOVED if piece.seq > after + 1 else "") + piece.text
        data = LogText(attempt=piece.attempt, text=text).model_dump_json()
        yield frame("log", data.encode(), event_id=str(piece.seq))
        after = piece.seq
