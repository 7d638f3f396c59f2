"""Version 1: the events of all jobs of the caller's tenant."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final, Protocol

from fastapi import Header, Response
from fastapi.requests import Request

from fleek.api.deps import caller, runtime
from fleek.api.errors import problems
from fleek.api.feed import Batch, Channel, Feed
from fleek.api.routing import router as strict_router
from fleek.api.sse import (
    QUIET_SECONDS,
    EventStream,
    chunks,
    described,
    frame,
    hello,
    last_event_id,
    quiet,
)
from fleek.api.streams import Stream
from fleek.domain.access import Scope
from fleek.domain.errors import BadEventId, DatabaseUnavailable, FleekError, TooManyStreams
from fleek.domain.job import BatchId
from fleek.domain.values import dataclass
from fleek.engine.runtime import Runtime
from fleek.store import event_stream
from fleek.store.event_stream import Cursor, StreamId

LONGEST_ABSENCE: Final = timedelta(hours=72)
LAGGING: Final = frame("lagging", b"{}")
EXAMPLE: Final = (
    "retry: 2000\n"
    "id: 84213-1785000000-00000000000000000000000000000000-0\n"
    'event: hello\ndata: {"version":"0.1.0","server_time":"2026-11-21T09:00:00Z"}\n\n'
    "id: 84217-1785000002-0198f3c27d4e7a109c553f0d2b6a8e41-5\n"
    'event: job.completed\ndata: {"seq":5,"at":"2026-11-21T09:00:02.5Z","id":"0198f3c2-…"}\n\n'
)
STREAM: Final[dict[int | str, dict[str, Any]]] = {200: described(EXAMPLE, "Server-sent events.")}

LastStreamId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="Id of the last event that was received: those after it follow. Without it, "
        "those that happen from now on. Browsers send it by themselves when they reconnect.",
    ),
]
"""Declares the header for the route; `last_event_id` reads it."""

router = strict_router("/api/v1", tag="events")


@router.get(
    "/events",
    scope=Scope.JOBS_READ,
    operation_id="stream_events",
    summary="Follow all jobs",
    response_class=Response,
    response_description="Server-sent events.",
    responses=STREAM | problems(BadEventId, TooManyStreams, DatabaseUnavailable),
)
async def stream_events(request: Request, _last: LastStreamId = None) -> Response:
    """Send the events of all jobs of the tenant as they happen, or after `Last-Event-ID`.

    The first event is `hello`. The data of an event of a job is the job as it is when the event is
    sent, with the number (`seq`) and the time (`at`) of the event. No event is left out, and those
    of a job come in order. `reset` says that the id is too old, or that of another database: list the jobs
    anew; the events from now on follow. `lagging` says that the client reads too slowly, and the
    stream ends. It also ends after an hour: open it again with `Last-Event-ID`, as browsers do.
    """
    return await followed(request)


async def followed(request: Request, progress: "Progress | None" = None) -> EventStream:
    """Return the stream of the caller's events; with `progress`, of the jobs of one batch.

    Raises:
        BadEventId: `Last-Event-ID` is none of ours.
        DatabaseUnavailable: Its events cannot be read now.
    """
    rt = runtime(request)
    last = _last_id(request)
    horizon = await event_stream.now(rt.db)
    lost = last is not None and _is_lost(rt, last, horizon)
    tenant_id = caller(request).tenant_id
    feed: Feed = request.app.state.feed
    sending = partial(_send, rt, feed, tenant_id, last, lost=lost, progress=progress)
    return EventStream(request, sending)


class Progress(Protocol):
    """What is told of a batch besides the events of its jobs."""

    batch_id: BatchId
    ended: bool  # after the frames that were given last

    async def frames(self, place: Cursor, *, changed: bool) -> Sequence[bytes]:
        """Return what is to be sent when all events up to `place` have been.

        `changed`: whether any has been since the last time.

        Raises:
            FleekError: It cannot be found out now.
        """
        ...

    @property
    def patience(self) -> float:
        """Seconds after which to ask again, although nothing has happened."""
        ...


def _last_id(request: Request) -> StreamId | None:
    given = last_event_id(request)
    if given is None:
        return None
    found = StreamId.parse(given)
    if found is None:
        raise BadEventId("Last-Event-ID is not the id of an event of this stream")
    return found


def _is_lost(rt: Runtime, last: StreamId, horizon: Cursor) -> bool:
    """Whether events after an id may be gone: with their jobs, or with the database of then."""
    longest = min(LONGEST_ABSENCE, rt.settings.job_retention or LONGEST_ABSENCE)
    too_old = event_stream.age(last, rt.now()) > longest.total_seconds()
    return too_old or last.cursor.position > horizon.position


async def _send(
    rt: Runtime,
    feed: Feed,
    tenant_id: str,
    last: StreamId | None,
    stream: Stream,
    *,
    lost: bool,
    progress: Progress | None = None,
) -> AsyncGenerator[bytes]:
    """Give the events of a tenant behind `last`; from now on if there is none, or it is lost."""
    with feed.follow(tenant_id, stream) as channel:
        cursor = await channel.begun(stream)
        if cursor is None:
            return
        here = StreamId(cursor, _seconds(rt))
        begin = here if last is None or lost else last
        place = Place(begin.cursor, None if begin is last else channel.next, QUIET_SECONDS)
        yield hello(rt, event_id=str(begin))
        if lost:
            yield frame("reset", b"{}", event_id=str(here))
        while not (stream.closed or place.over):
            try:
                async for chunk in _turn(feed, tenant_id, channel, place, progress):
                    yield chunk
            except FleekError:  # the caller comes back, and goes on behind what it has
                return
            if place.number == channel.next and not place.over:
                await stream.bell.wait(seconds=place.patience)
                if place.number == channel.next:
                    place.cursor = max(place.cursor, channel.cursor or place.cursor)
                    yield quiet(str(StreamId(place.cursor, _seconds(rt))))


async def _turn(
    feed: Feed, tenant_id: str, channel: Channel, place: "Place", progress: Progress | None
) -> AsyncGenerator[bytes]:
    """Give what is new now."""
    batches = await _next(feed, tenant_id, channel, place)
    if batches is None:
        place.over = True
        yield LAGGING
        return
    changed = False
    for chunk in _sent(batches, place, only=None if progress is None else progress.batch_id):
        changed = True
        yield chunk
    if progress is not None:
        if place.number == channel.next:
            place.cursor = max(place.cursor, channel.cursor or place.cursor)
        for one in await progress.frames(place.cursor, changed=changed):
            yield one
        place.over, place.patience = progress.ended, progress.patience


@dataclass(slots=True)
class Place:
    """How far a stream has come."""

    cursor: Cursor  # behind what was sent
    number: int | None  # of the channel's batch that comes next; None: the database comes first
    patience: float  # seconds until it is looked at again, although nothing has happened
    over: bool = False  # nothing more is sent


async def _next(
    feed: Feed, tenant_id: str, channel: Channel, place: Place
) -> Sequence[Batch] | None:
    """Return what is to be sent next; None: it is not held any more."""
    if place.number is not None:
        batches = channel.since(place.number)
        place.number = channel.next
        return batches
    following = channel.next  # before the read: whatever the channel reads from now on comes again
    batch, more = await feed.batch(tenant_id, place.cursor)
    place.number = None if more else following
    return [batch]


def _sent(
    batches: Sequence[Batch], place: Place, *, only: BatchId | None = None
) -> Iterator[bytes]:
    """Give what is sent of some batches, and note the place behind each."""
    for batch in batches:
        yield from chunks(batch.after(place.cursor, only=only))
        place.cursor = max(place.cursor, batch.end)


def _seconds(rt: Runtime) -> int:
    return int(rt.now().timestamp())
