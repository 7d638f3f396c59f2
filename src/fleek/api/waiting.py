"""``Prefer: wait``: answer a submission when its job has ended, or when the time is over.

Source: RFC 7240, sections 2 and 4.3.
"""

import asyncio
import re
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Annotated, Any, Final

from fastapi import Header
from fastapi.requests import Request

from fleek.api.deps import hub, runtime
from fleek.api.headers import headers_of
from fleek.api.hub import Hub
from fleek.api.sse import disconnected
from fleek.domain.errors import DatabaseUnavailable, NotFound
from fleek.domain.job import JobId
from fleek.engine.loops import Bell
from fleek.store import jobs
from fleek.store.jobs import JobView

LONGEST: Final = 60  # seconds; also without a number
ENDS_SECONDS: Final = 55.0  # every wait: many proxies give up after a minute, and answer 504
RETRY_SECONDS: Final = "1"  # Retry-After of an answer whose job has not ended
QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"')
WAIT: Final = re.compile(r"\s*wait\s*(?:=\s*([0-9]{1,2})\s*)?(?:;.*)?", re.IGNORECASE)

PreferHeader = Annotated[
    str | None,
    Header(
        alias="Prefer",
        description="`wait=N`, N from 1 to 60 seconds: respond when the job has ended, at the "
        "latest after that time and after 55 seconds, with the job as it is then. `Preference-Applied` in the response "
        "says that it was heeded; other values are ignored. A caller that goes away cancels "
        "nothing.",
        examples=["wait=30"],
    ),
]
"""Declares the header for a route; `wait_for_end` reads it."""

WAITED: Final[dict[str, Any]] = {
    "Preference-Applied": {
        "description": "`wait=N`, if the request had to wait.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds until the next look, if the job has not ended after a wait.",
        "schema": {"type": "integer"},
    },
}
"""The headers of a response that may have waited."""


def preferred_seconds(headers: list[str]) -> int | None:
    """Return how long the caller prefers to wait; None: not at all, or not in a way we know.

    The first of several values counts.
    """
    for preference in QUOTED.sub(_unquoted, ",".join(headers)).split(","):
        if (wait := WAIT.fullmatch(preference)) is not None:
            seconds = LONGEST if wait[1] is None else int(wait[1])
            return seconds if 1 <= seconds <= LONGEST else None
    return None


def _unquoted(quoted: re.Match[str]) -> str:
    return quoted[1] if quoted[1].isalnum() else ""


async def wait_for_end(
    request: Request, headers: MutableMapping[str, str], view: JobView
) -> JobView:
    """Return a job, after a wait if the caller prefers one and this process has room for it.

    `headers`: those of the response. The wait ends early if the caller goes away or the process is told to stop.
    """
    if b"prefer" not in headers_of(request.scope):
        return view
    seconds = preferred_seconds(request.headers.getlist("prefer"))
    if seconds is None:
        return view
    view, waited = await waited_for_end(request, view, seconds=seconds)
    if not waited:
        return view
    headers["Preference-Applied"] = f"wait={seconds}"
    if not view.job.terminal:
        headers["Retry-After"] = RETRY_SECONDS
    return view


async def waited_for_end(
    request: Request, view: JobView, *, seconds: float
) -> tuple[JobView, bool]:
    """Return a job as it is at its end or after the wait; False: this process has no room for it."""
    with hub(request).waiting() as admitted:
        if not admitted:
            return view, False
        await _until_ended(request, view.job.id, seconds=min(seconds, ENDS_SECONDS))
    with suppress(DatabaseUnavailable, NotFound):  # it was accepted: say so, whatever has happened
        view = await jobs.get(runtime(request).db, view.job.id, tenant_id=view.job.tenant_id)
    return view, True


async def _until_ended(request: Request, job_id: JobId, *, seconds: float) -> None:
    ended = asyncio.create_task(_ended(hub(request), job_id))
    # during `receive`, the admission control counts a request as idle
    left = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait([ended, left], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
        left.cancel()
        await asyncio.gather(ended, left, return_exceptions=True)


async def _ended(hub: Hub, job_id: JobId) -> None:
    with hub.watch(job_id, Bell()) as watch:
        while not (watch.ended or hub.closing):
            await watch.bell.wait(seconds=LONGEST)
