"""The output of a prediction as server-sent events, for ``replicate.stream``.

The address holds a signature, as clients send no key to it; it works for an hour.
"""

from collections.abc import AsyncGenerator, Iterator
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from fastapi.requests import Request
from fastapi.responses import Response

from fleek import strict
from fleek.api.deps import JOB_ID, caller, hub, runtime
from fleek.api.facades.replicate.prediction import PREFIX, status_of
from fleek.api.facades.replicate.predictions import presented
from fleek.api.facades.routes import FacadeRouter
from fleek.api.hub import Hub
from fleek.api.sse import COMMENT, QUIET_SECONDS, EventStream
from fleek.api.streams import Stream
from fleek.domain.access import Scope
from fleek.domain.errors import FleekError, NotFound
from fleek.domain.job import Job, JobId
from fleek.engine.runtime import Runtime
from fleek.store import jobs

REASONS = {"failed": {"reason": "error"}, "canceled": {"reason": "canceled"}}

router = FacadeRouter(PREFIX, "/replicate")


@router.route("GET", "/streams/{name}", scope=Scope.MEDIA_READ)
async def stream(
    name: str,
    request: Request,
    exp: Annotated[str | None, Query()] = None,  # noqa: ARG001 - see `fleek.api.access`
    sig: Annotated[str | None, Query()] = None,  # noqa: ARG001 - likewise
) -> Response:
    """Send the output when the prediction has ended."""
    rt, (job_id, _, kind) = runtime(request), name.partition(".")
    if JOB_ID.fullmatch(job_id) is None or kind != "stream":
        raise NotFound("there is no such stream")
    view = await jobs.get(rt.db, JobId(UUID(job_id)), tenant_id=caller(request).tenant_id)
    return EventStream(request, partial(_follow, rt, hub(request), view.job))


async def _follow(rt: Runtime, hub: Hub, job: Job, stream: Stream) -> AsyncGenerator[bytes]:
    with hub.watch(job.id, stream.bell):
        while not stream.closed:
            try:
                view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)
                shown = await presented(rt, view) if view.job.terminal else None
            except FleekError:  # the caller comes back
                return
            if shown is not None:
                for event in _events(view.job, shown):
                    yield event
                return
            yield COMMENT
            await stream.bell.wait(seconds=QUIET_SECONDS)


def _events(job: Job, shown: dict[str, Any]) -> Iterator[bytes]:
    """Give the events of a prediction that has ended; clients drop those without an id."""
    output = shown["output"]
    pieces = [] if output is None else output if isinstance(output, list) else [output]
    for number, piece in enumerate(pieces):
        text = piece if isinstance(piece, str) else strict.dumps(piece).decode()
        yield _event("output", f"{job.id}:{number}", text)
    if shown["error"] is not None:
        yield _event("error", f"{job.id}:error", str(shown["error"]))
    reason = strict.dumps(REASONS.get(status_of(job), {})).decode()
    yield _event("done", f"{job.id}:done", reason)


def _event(kind: str, event_id: str, text: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in text.split("\n"))
    return f"event: {kind}\nid: {event_id}\n{lines}\n".encode()
