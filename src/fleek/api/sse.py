"""Server-sent events: their frames, and the response that carries them.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from datetime import UTC
from typing import Any, Final

from fastapi import Response
from fastapi.requests import Request
from starlette.types import Receive, Scope, Send

from fleek import __version__
from fleek.api.deps import caller, streams
from fleek.api.errors import answer
from fleek.api.streams import Stream
from fleek.domain.errors import BadEventId, TooManyStreams
from fleek.engine.runtime import Runtime
from fleek.schemas.events import Hello
from fleek.store.events import Event

RETRY_MILLISECONDS: Final = 2000  # until a client that was cut off comes back
COMMENT: Final = b":\n\n"  # shows proxies and clients that the stream lives
QUIET_SECONDS: Final = 15.0  # until a comment is sent
CHUNK_BYTES: Final = 16_384
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
DIGITS: Final = re.compile(r"[0-9]{1,10}")
MOST: Final = 2**31

Chunks = Callable[[Stream], AsyncGenerator[bytes]]
"""Gives the frames of an open stream, until it is closed or has no more to say."""


def frame(event: str, data: bytes, *, event_id: str | None = None) -> bytes:
    """Return an event; `data` is JSON without line breaks."""
    name = b"event: " + event.encode()
    lines = [] if event_id is None else [b"id: " + event_id.encode()]
    return b"\n".join([*lines, name, b"data: " + data, b"", b""])


def hello(rt: Runtime, *, event_id: str | None = None) -> bytes:
    """Return what each stream begins with."""
    data = Hello(version=__version__, server_time=rt.now()).model_dump_json().encode()
    return b"retry: %d\n" % RETRY_MILLISECONDS + frame("hello", data, event_id=event_id)


def event_data(line: Event, job: bytes) -> bytes:
    """Return the data of an event: the job as JSON, with the number and the time of the event."""
    at = line.at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    return b'{"seq":%d,"at":"%sZ",' % (line.seq, at.encode()) + job.removeprefix(b"{")


def quiet(event_id: str) -> bytes:
    """Return what a quiet stream sends: no event, but where to go on."""
    return b":\nid: %s\n\n" % event_id.encode()


def last_event_id(request: Request) -> str | None:
    """Return the id of the last event that the caller has; None: it is new.

    Raises:
        BadEventId: There are several.
    """
    given = request.headers.getlist("last-event-id")
    if len(given) > 1:
        raise BadEventId("Last-Event-ID may be given once")
    return given[0].strip() or None if given else None


def last_seq(request: Request) -> int | None:
    """Return the number of the last event of a job that the caller has; None: it is new.

    Raises:
        BadEventId: It is no number, or too large.
    """
    given = last_event_id(request)
    if given is None:
        return None
    if DIGITS.fullmatch(given) is None or int(given) > MOST:
        raise BadEventId(f"Last-Event-ID must be a number from 0 to {MOST}")
    return int(given)


class EventStream(Response):
    """A response without an end of its own; it ends when its caller goes away, too."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, chunks: Chunks) -> None:
        super().__init__(headers=HEADERS, media_type=self.media_type)
        del self.headers["content-length"]
        self._request = request
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames, or why there can be no stream now."""
        try:
            with streams(self._request).open(caller(self._request), scope["client"]) as stream:
                await self._respond(stream, scope, receive, send)
        except TooManyStreams as error:
            await answer(self._request, error)(scope, receive, send)

    async def _respond(self, stream: Stream, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        writing = asyncio.create_task(self._write(stream, send))
        leaving = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait([writing, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            writing.cancel()
            leaving.cancel()
            ended, _ = await asyncio.gather(writing, leaving, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended

    async def _write(self, stream: Stream, send: Send) -> None:
        async with aclosing(self._chunks(stream)) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})


async def disconnected(receive: Receive) -> None:
    """Wait until the caller has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def chunks(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Join frames, so that each write is worth it and none is large."""
    held: list[bytes] = []
    for one in frames:
        held.append(one)
        if sum(map(len, held)) >= CHUNK_BYTES:
            yield b"".join(held)
            held.clear()
    if held:
        yield b"".join(held)


def prefers_json(request: Request) -> bool:
    """Whether the caller can read JSON and no stream."""
    accepted = ",".join(request.headers.getlist("accept")).lower()
    return "application/json" in accepted and "text/event-stream" not in accepted


def described(example: str, description: str) -> dict[str, Any]:
    """Return what the description of the API says about a stream."""
    content = {"text/event-stream": {"schema": {"type": "string"}, "example": example}}
    return {"description": description, "content": content}
