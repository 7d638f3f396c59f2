"""Server-sent events without input and output: shared by both clients.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from fleek.client import wire
from fleek.client.errors import ServerError
from fleek.client.models import JobEvent, LogText

DONE: Final = b"event: done\ndata: {}\n\n"  # stands for an answer without content
INTERNAL: Final = frozenset({"hello", "lagging"})


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a job."""

    type: str
    """As in `fleek.schemas.events.EventType`; `reset`: events were missed, so list the jobs."""
    id: str  # where to go on: `after` of the next stream
    job: JobEvent | None  # as it is when the event is sent, with its `seq` and `at`; None: `reset`


@dataclass(frozen=True, slots=True)
class LogPiece:
    """What has come to the logs of a job."""

    id: str  # where to go on: `after` of the next stream
    attempt: int  # number of the attempt, from 1
    text: str


T = TypeVar("T")
Reader = Callable[[str, str, str], T | None]
"""Reads an event by its type, its id and its data; None: it is for the client alone."""


class EventParser(Generic[T]):
    """Reads the bytes of a stream; `last` is the id to go on behind."""

    def __init__(self, last: str | None, read: Reader[T]) -> None:
        self.last = last
        self.done = False  # whether there are no more events
        self._read = read
        self._rest = b""
        self._fields: dict[str, str] = {}

    def reconnected(self) -> None:
        """Drop what was cut off."""
        self._rest, self._fields = b"", {}

    def feed(self, chunk: bytes) -> Iterator[T]:
        """Give the events that end in a chunk.

        Raises:
            ServerError: This is no stream of events of version 1.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > wire.MAX_ANSWER_BYTES:
            raise ServerError(f"an event has more than {wire.MAX_ANSWER_BYTES} bytes")
        for line in lines:
            if text := line.decode(errors="replace").removesuffix("\r"):
                name, _, value = text.partition(":")
                self._fields[name] = value.removeprefix(" ")
            elif (event := self._dispatched()) is not None:
                yield event

    def _dispatched(self) -> T | None:
        fields, self._fields = self._fields, {}
        self.last = fields.get("id") or self.last
        kind = fields.get("event", "message")
        self.done = self.done or kind == "done"
        if "data" not in fields or kind in INTERNAL or self.done:
            return None
        return self._read(kind, self.last or "", fields["data"])


def read_event(kind: str, event_id: str, data: str) -> Event:
    """Read an event of a job."""
    job = None if kind == "reset" else wire.parse(JobEvent, _json(data))
    return Event(kind, event_id, job)


def read_piece(kind: str, event_id: str, data: str) -> LogPiece | None:
    """Read a piece of logs."""
    if kind != "log":
        return None
    piece = wire.parse(LogText, _json(data))
    return LogPiece(event_id, piece.attempt, piece.text)


def _json(data: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ServerError("the data of an event is not JSON") from error
