"""Version 1: the events of a batch as they happen."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import Response
from fastapi.requests import Request

from fleek.api.batches import BatchIdPath
from fleek.api.deps import caller, runtime
from fleek.api.errors import problems
from fleek.api.events import DONE
from fleek.api.routing import router as strict_router
from fleek.api.sse import QUIET_SECONDS, described, frame
from fleek.api.tenant_events import LastStreamId, followed
from fleek.domain.access import Scope
from fleek.domain.batch import BatchView
from fleek.domain.errors import BadEventId, DatabaseUnavailable, NotFound, TooManyStreams
from fleek.engine.runtime import Runtime
from fleek.schemas.batches import BatchRead
from fleek.store import batches
from fleek.store.event_stream import Cursor

PAUSE_SECONDS: Final = 1.0  # between two counts of the members, at least
EXAMPLE: Final = (
    "retry: 2000\n"
    "id: 84213-1785000000-00000000000000000000000000000000-0\n"
    'event: hello\ndata: {"version":"0.1.0","server_time":"2026-11-21T09:00:00Z"}\n\n'
    'event: batch\ndata: {"id":"0198f3c2-…","status":"processing","counts":{"pending":1}}\n\n'
    "id: 84217-1785000002-0198f3c27d4e7a109c553f0d2b6a8e41-5\n"
    'event: job.completed\ndata: {"seq":5,"at":"2026-11-21T09:00:02.5Z","id":"0198f3c2-…"}\n\n'
    "event: done\ndata: {}\n\n"
)
STREAM: Final[dict[int | str, dict[str, Any]]] = {200: described(EXAMPLE, "Server-sent events.")}

router = strict_router("/api/v1", tag="batches")


@router.get(
    "/batches/{batch_id}/events",
    scope=Scope.JOBS_READ,
    operation_id="stream_batch_events",
    summary="Follow a batch",
    response_class=Response,
    response_description="Server-sent events.",
    responses=STREAM | problems(BadEventId, NotFound, TooManyStreams, DatabaseUnavailable),
)
async def stream_batch_events(
    batch_id: BatchIdPath, request: Request, _last: LastStreamId = None
) -> Response:
    """Send the events of the jobs of a batch as they happen, or after `Last-Event-ID`.

    They are those of `GET /api/v1/events`, and so are `hello`, `reset` and `lagging`. Besides,
    `batch` has the batch as it is: at the beginning, and up to once a second after events. After the
    last event of a batch whose jobs have all ended, `done` follows, and the stream ends.
    """
    rt = runtime(request)
    view = await batches.get(rt.db, batch_id, tenant_id=caller(request).tenant_id)
    return await followed(request, BatchProgress(rt, view))


class BatchProgress:
    """How far a batch has come, for one stream."""

    def __init__(self, rt: Runtime, view: BatchView) -> None:
        self.batch_id = view.batch.id
        self.ended = False
        self._rt = rt
        self._tenant_id = view.batch.tenant_id
        self._view: BatchView | None = None  # as it was sent
        self._stale = True  # there were events since it was read
        self._next = rt.steady()
        self._last: Cursor | None = None  # the place of the last event; None: not all have ended

    @property
    def patience(self) -> float:
        """Seconds after which to ask again, although nothing has happened."""
        waits = self._stale or self._last is not None
        return PAUSE_SECONDS if waits else QUIET_SECONDS

    async def frames(self, place: Cursor, *, changed: bool) -> Sequence[bytes]:
        """Return the batch if it has changed, and `done` behind the last event."""
        self._stale = self._stale or changed
        found: list[bytes] = []
        if self._stale and self._rt.steady() >= self._next:
            self._next = self._rt.steady() + PAUSE_SECONDS
            self._stale = False
            found += await self._read()
        if self._last is not None and place.position > self._last.position:
            self.ended = True
            found.append(DONE)
        return found

    async def _read(self) -> list[bytes]:
        db = self._rt.db
        view = await batches.get(db, self.batch_id, tenant_id=self._tenant_id)
        self._last = await batches.last_position(db, self.batch_id) if view.ended else None
        if view == self._view:
            return []
        self._view = view
        shown = BatchRead.of(view, public=self._rt.settings.public_base)
        return [frame("batch", shown.model_dump_json().encode())]
