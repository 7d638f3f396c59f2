"""The events of tenants for all streams of this process: read once, sent to many.

Each tenant that somebody follows has a channel with the latest events. Nothing is buffered per
stream: a stream that is further behind than what the channel holds is told so and ends.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from fleek.api.deps import addresses
from fleek.api.sse import event_data, frame
from fleek.api.streams import Stream
from fleek.api.turns import POLL_SECONDS, read_in_turns
from fleek.domain.job import BatchId, JobId
from fleek.domain.values import dataclass
from fleek.engine.runtime import Runtime
from fleek.schemas import job_json
from fleek.schemas.events import PUBLIC
from fleek.store import event_stream, jobs
from fleek.store.event_stream import Cursor, StreamEvent, StreamId

PAGE: Final = 100  # events in one read
HELD_BYTES: Final = 4 * 1_048_576  # of a channel; the latest batch is held whatever its size


@dataclass(frozen=True, slots=True)
class Frame:
    """An event of a job, as it is sent."""

    cursor: Cursor
    data: bytes
    batch_id: BatchId | None  # of its job


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that were read together."""

    frames: Sequence[Frame]
    end: Cursor  # all events up to it are in this batch or before

    @property
    def size(self) -> int:
        """How many bytes it holds."""
        return sum(len(one.data) for one in self.frames)

    def after(self, cursor: Cursor, *, only: BatchId | None = None) -> list[bytes]:
        """Return the frames of events behind a cursor; with `only`, of the jobs of a batch."""
        return [
            one.data
            for one in self.frames
            if one.cursor > cursor and (only is None or one.batch_id == only)
        ]


class Channel:
    """The latest events of one tenant, in numbered batches."""

    def __init__(self) -> None:
        self.streams: set[Stream] = set()
        self.cursor: Cursor | None = None  # up to which it has read; None: not begun
        self.first = 0  # number of the oldest batch that it holds
        self._batches: deque[Batch] = deque()
        self._size = 0

    @property
    def next(self) -> int:
        """The number of the batch that comes next."""
        return self.first + len(self._batches)

    def since(self, number: int) -> list[Batch] | None:
        """Return the batches from this number on; None: some are not held any more."""
        if number < self.first:
            return None
        return [self._batches[i] for i in range(number - self.first, len(self._batches))]

    def add(self, batch: Batch) -> None:
        """Hold a batch, let go of the oldest, and wake all streams."""
        self.cursor = batch.end
        if not batch.frames:
            return
        self._batches.append(batch)
        self._size += batch.size
        while self._size > HELD_BYTES and len(self._batches) > 1:
            self._size -= self._batches.popleft().size
            self.first += 1
        self.wake()

    async def begun(self, stream: Stream) -> Cursor | None:
        """Wait until it has begun to read; returns up to where. None: the stream was closed."""
        while self.cursor is None and not stream.closed:
            await stream.bell.wait(seconds=POLL_SECONDS)
        return self.cursor

    def wake(self) -> None:
        """Ring the bells of all streams."""
        for stream in self.streams:
            stream.bell.notify()


class Feed:
    """The channels of one process, and a task that reads for each."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._channels: dict[str, Channel] = {}
        self._readers: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._channels)

    @contextmanager
    def follow(self, tenant_id: str, stream: Stream) -> Iterator[Channel]:
        """Give the channel of a tenant for as long as the block runs."""
        channel = self._channels.get(tenant_id)
        if channel is None:
            channel = self._channels[tenant_id] = Channel()
            reader = asyncio.create_task(self._read_while_followed(tenant_id, channel))
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        channel.streams.add(stream)
        try:
            yield channel
        finally:
            channel.streams.discard(stream)

    async def batch(self, tenant_id: str, after: Cursor) -> tuple[Batch, bool]:
        """Read what follows a cursor; returns also whether there may be more."""
        horizon = await event_stream.now(self._rt.db)
        found = await event_stream.page(self._rt.db, tenant_id, after=after, limit=PAGE)
        full = len(found) == PAGE
        end = max([after, *(one.cursor for one in found[-1:]), *([] if full else [horizon])])
        return Batch(await self._frames(found), end), full

    async def _frames(self, found: Sequence[StreamEvent]) -> list[Frame]:
        public = [one for one in found if one.event.type in PUBLIC]
        if not public:
            return []
        bodies = await self._bodies([one.job_id for one in public])
        at = int(self._rt.now().timestamp())
        return [
            Frame(
                one.cursor,
                frame(
                    PUBLIC[one.event.type],
                    event_data(one.event, bodies[one.job_id][0]),
                    event_id=str(StreamId(one.cursor, at)),
                ),
                bodies[one.job_id][1],
            )
            for one in public
            if one.job_id in bodies  # else its retention has ended
        ]

    async def _bodies(self, job_ids: Sequence[JobId]) -> dict[JobId, tuple[bytes, BatchId | None]]:
        """Return the jobs as they are sent, and their batches."""
        found = await jobs.views(self._rt.db, job_ids)
        base = addresses(self._rt)
        return {
            job_id: (
                job_json(view.job, view.media, base),
                view.job.batch_id,
            )
            for job_id, view in found.items()
        }

    async def _read_while_followed(self, tenant_id: str, channel: Channel) -> None:
        read = partial(self._read, tenant_id, channel)
        try:
            await read_in_turns(self._rt, read, followed=lambda: bool(channel.streams))
        finally:
            del self._channels[tenant_id]

    async def _read(self, tenant_id: str, channel: Channel) -> bool:
        if channel.cursor is None:
            channel.cursor = await event_stream.now(self._rt.db)
            channel.wake()
            return False
        batch, more = await self.batch(tenant_id, channel.cursor)
        channel.add(batch)
        return more
