"""Repetitions without a mark: a client sends a request again because it has lost the answer.

A client that sends neither ``Idempotency-Key`` nor a count of its retries is told from one that means
two calls by its connection: if that broke before the answer was written, the next equal request of the
same tenant within two minutes is the repetition, and gets the job of the first. One whose caller has gone
before its job is accepted makes none. Two calls whose answers were written are two jobs, in a row and at once.

An answer that got lost behind a proxy cannot be told from one that arrived, nor one that another process
has given: `DEDUPE_WINDOW_SECONDS` is for those.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from time import monotonic
from typing import Any, Final

import structlog
from fastapi.requests import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from fleek.api.deps import runtime
from fleek.api.idempotency import RETRY_WINDOW, identify, is_counted_retry
from fleek.api.sse import disconnected
from fleek.domain.errors import Unreadable
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import Job, JobRequest
from fleek.engine.submit import submit_once
from fleek.store import jobs
from fleek.store.jobs import Accepted

WINDOW_SECONDS: Final = 120.0  # a client's own retries follow within seconds
MOST: Final = 10_000  # requests that are remembered
LOOKED_AT: Final = 10  # of the oldest, with each new one
COUNTED_WINDOW: Final = timedelta(
    minutes=25
)  # while a job has not ended: a client tries three times,
# for ten minutes each
ENTRY: Final = "fleek.repeatable"  # in the scope of a request

log = structlog.get_logger(__name__)


class Repeatable:
    """A request that creates a job, from its arrival until its answer has been written."""

    def __init__(self, request: Request, digest: bytes) -> None:
        self.digest = digest
        self.job: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._lost: bool | None = None  # None: the answer has not been written
        self._answered_at: float | None = None

    async def is_lost(self) -> bool:
        """Whether its caller never gets, or never got, the answer."""
        if self._lost is None:
            return await has_gone(self._request.receive)
        return self._lost

    def answered(self, *, lost: bool) -> None:
        """Record what became of the answer."""
        self._lost, self._answered_at = lost, monotonic()
        if not self.job.done():
            self.job.set_result(None)

    @property
    def is_past(self) -> bool:
        """Whether its answer, which may have taken long, is too old to be asked for again."""
        return self._answered_at is not None and monotonic() - self._answered_at > WINDOW_SECONDS


class Repeats:
    """The requests of one process whose answers have not been written, or were lost."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Repeatable] = OrderedDict()
        self._of: dict[bytes, list[Repeatable]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Repeatable) -> None:
        """Remember a request."""
        for oldest in list(islice(self._entries.values(), LOOKED_AT)):
            if oldest.is_past or len(self._entries) >= MOST:
                self.remove(oldest)
        self._entries[id(entry)] = entry
        self._of.setdefault(entry.digest, []).append(entry)

    def remove(self, entry: Repeatable) -> None:
        """Forget a request."""
        if self._entries.pop(id(entry), None) is None:
            return
        others = self._of[entry.digest]
        others.remove(entry)
        if not others:
            del self._of[entry.digest]

    async def decided(self, entry: Repeatable) -> None:
        """Wait until the equal requests before this one have been accepted or refused."""
        for earlier in self._before(entry):
            await asyncio.shield(earlier.job)

    def _before(self, entry: Repeatable) -> list[Repeatable]:
        equal = self._of.get(entry.digest, [])
        return equal[: equal.index(entry)] if entry in equal else list(equal)

    def forget_tries(self, entry: Repeatable, job: Job) -> None:
        """Forget the requests before this one, which repeats them, that have made its job.

        They may be found to be lost later; then the next request, which is another call, would get the job.
        """
        for earlier in self._before(entry):
            made = earlier.job.result() if earlier.job.done() else None
            if made is not None and made.id == job.id:
                self.remove(earlier)

    async def take(self, digest: bytes, *, before: Repeatable | None = None) -> Repeatable | None:
        """Return the earliest equal request whose answer is lost; it is repeated by one request only."""
        equal = self._of.get(digest, []) if before is None else self._before(before)
        for entry in list(equal):
            lost = await entry.is_lost()
            if lost and id(entry) in self._entries:
                self.remove(entry)
                if not entry.is_past:
                    return entry
        return None


async def has_gone(receive: Receive) -> bool:
    """Whether the caller of a request, whose body has been read, has closed its connection."""
    looking = asyncio.create_task(disconnected(receive))
    await asyncio.sleep(0)
    gone = looking.done()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    return gone


async def create_once(request: Request, wanted: JobRequest) -> Accepted:
    """Accept a job, or return that of the request which this one repeats; see `submit_once`.

    Raises:
        Unreadable: The caller has gone, and no job was accepted.
    """
    rt = runtime(request)
    identity = identify(request, replace(wanted, metadata={}))  # which the facade has added
    if identity.key is not None:
        return await submit_once(rt, wanted, identity)
    repeats: Repeats = request.app.state.repeats
    if await has_gone(request.receive):
        raise Unreadable("the caller has gone")
    earlier = await repeats.take(identity.digest)
    entry = request.scope[ENTRY] = Repeatable(request, identity.digest)
    repeats.add(entry)
    if earlier is None and is_counted_retry(request):  # of one that is not known to be lost yet
        await repeats.decided(entry)
        earlier = await repeats.take(identity.digest, before=entry)
    job = None if earlier is None else await asyncio.shield(earlier.job)
    if job is not None:
        log.info("request_replayed", job_id=str(job.id), by="lost answer")
        entry.job.set_result(job)
        return Accepted(job, created=True, replayed=True)
    accepted = await _unfinished(request, identity) or await submit_once(rt, wanted, identity)
    entry.job.set_result(accepted.job)
    if is_counted_retry(request):
        repeats.forget_tries(entry, accepted.job)
    return accepted


async def _unfinished(request: Request, identity: RequestIdentity) -> Accepted | None:
    """Return the job that a counted retry asks for, if its answer is the result, which takes long.

    Its client may have waited for ten minutes, or the process that gave the answer is not there any more.
    """
    if not is_counted_retry(request):
        return None
    rt, wide = runtime(request), replace(identity, window=COUNTED_WINDOW)
    found = await jobs.find_earlier(rt.db, wide, now=rt.now())
    ended_at = None if found is None else found.job.completed_at
    is_past = ended_at is not None and rt.now() - ended_at > RETRY_WINDOW
    return None if is_past else found


async def noticing(
    request: Request, handle: Callable[[Request], Coroutine[Any, Any, Response]]
) -> Response:
    """Handle a request; if it creates a job, notice whether its answer is lost."""
    try:
        response = await handle(request)
    except BaseException:  # whether a job was accepted before or not
        entry = request.scope.get(ENTRY)
        if entry is not None:
            entry.answered(lost=True)
            if entry.job.result() is None:
                request.app.state.repeats.remove(entry)
        raise
    entry = request.scope.get(ENTRY)
    return response if entry is None else _Noticed(request, entry, response)


class _Noticed(Response):
    """A response of which it is noticed whether its caller has gone before it."""

    def __init__(
        self,
        request: Request,
        entry: Repeatable,
        response: Callable[[Scope, Receive, Send], Awaitable[None]],
    ) -> None:
        super().__init__()
        self._entry = entry
        self._response = response
        self._repeats: Repeats = request.app.state.repeats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lost = True
        try:
            lost = await self._entry.is_lost()
            await self._response(scope, receive, send)
        finally:
            self._entry.answered(lost=lost)
            if not lost:
                self._repeats.remove(self._entry)
