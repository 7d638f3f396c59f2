"""Routes that wait for the result, and the proxy that JavaScript's client sends every call through."""

import re
from collections.abc import AsyncGenerator
from functools import partial
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from fleek.api.deps import hub, runtime
from fleek.api.facades.fal.queue import Arguments, noted, outcome
from fleek.api.facades.fal.submit import submission
from fleek.api.facades.repeats import create_once, has_gone
from fleek.api.facades.routes import FacadeRouter
from fleek.api.hub import Hub
from fleek.api.sse import COMMENT, QUIET_SECONDS, EventStream
from fleek.api.streams import Stream
from fleek.api.waiting import waited_for_end
from fleek.domain.access import Scope as KeyScope
from fleek.domain.errors import FleekError, InvalidInput, Overloaded
from fleek.domain.job import Job
from fleek.engine.runtime import Runtime
from fleek.engine.webhook_keys import public_keys
from fleek.store import jobs
from fleek.store.jobs import JobView

LONGEST_SECONDS: Final = 3600.0
TARGET: Final = "x-fal-target-url"
HOSTS: Final = {
    "fal.run": "/fal",
    "queue.fal.run": "/fal-queue",
    "rest.fal.ai": "/fal",
    "rest.alpha.fal.ai": "/fal",
    "v3.fal.media": "/fal",
}
SAFE_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")

router = FacadeRouter("/fal")


@router.route("GET", "/.well-known/jwks.json", scope=None)
async def get_keys(request: Request) -> Response:
    """Return the public keys that verify webhooks."""
    keys = await public_keys(runtime(request))
    return JSONResponse({"keys": keys}, headers={"Cache-Control": "public, max-age=3600"})


@router.route(("GET", "POST", "PUT"), "/proxy", scope=None)
async def proxy(request: Request) -> Response:
    """Handle the call that the header names as if it had been sent here."""
    target = urlsplit(request.headers.get(TARGET, ""))
    prefix = HOSTS.get(target.hostname or "")
    path = target.path.rstrip("/")
    safe = SAFE_PATH.fullmatch(path) and f"{prefix}{path}" != "/fal/proxy"
    if target.scheme != "https" or prefix is None or not safe:
        raise InvalidInput(f"{TARGET} must be an address of fal: https://queue.fal.run/…")
    return _Forwarded(request, f"{prefix}{path}", target.query)


class _Forwarded(Response):
    """The response of another route, whose own checks decide what the caller may."""

    def __init__(self, request: Request, path: str, query: str) -> None:
        super().__init__()
        self._router = request.app.router
        self._changes = {
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        keep = {name: value for name, value in scope.items() if name not in {"route", "endpoint"}}
        await self._router({**keep, **self._changes}, receive, send)


@router.route("POST", "/{app:path}/stream", scope=KeyScope.JOBS_WRITE)
async def stream(app: str, arguments: Arguments, request: Request) -> Response:
    """Create a job, and send its result as the one event of a stream."""
    asked = await submission(request, app, arguments)
    accepted = await create_once(request, asked.wanted)
    response = EventStream(
        request, partial(_follow, runtime(request), hub(request), accepted.job, request)
    )
    response.headers.update(noted(accepted.job, asked.ignored))
    return response


async def _follow(
    rt: Runtime, hub: Hub, job: Job, request: Request, stream: Stream
) -> AsyncGenerator[bytes]:
    with hub.watch(job.id, stream.bell):
        while not stream.closed:
            try:
                view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)
                shown = await outcome(request, view) if view.job.terminal else None
            except FleekError:
                return
            if shown is not None:
                yield b"data: " + bytes(shown.body) + b"\n\n"
                return
            yield COMMENT
            await stream.bell.wait(seconds=QUIET_SECONDS)


@router.route("POST", "/{app:path}", scope=KeyScope.JOBS_WRITE)
async def run(app: str, arguments: Arguments, request: Request) -> Response:
    """Create a job, and return its result when it has ended."""
    asked = await submission(request, app, arguments)
    accepted = await create_once(request, asked.wanted)
    view = JobView(accepted.job, ())
    if accepted.replayed:
        view = await jobs.get(
            runtime(request).db, accepted.job.id, tenant_id=accepted.job.tenant_id
        )
    began, admitted = monotonic(), True
    while admitted and not view.job.terminal and monotonic() - began < LONGEST_SECONDS:
        view, admitted = await waited_for_end(request, view, seconds=LONGEST_SECONDS)
        if await has_gone(request.receive):
            break
    if not view.job.terminal:  # the client sends it again, and gets the same job
        raise Overloaded("the result takes too long to wait for it here: use the queue")
    return await outcome(request, view, asked.ignored)
