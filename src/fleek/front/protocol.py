"""uvicorn's HTTP protocol with deadlines, limits and strict framing.

The library has no limits for the time of a request, the size of its head, and unread responses.
Here, each has a deadline and a maximum size. A refused request gets a problem document before the
application is called.

Sources: RFC 9110, RFC 9112 (framing, sections 3, 6 and 9.6), RFC 6585 (431).
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from time import monotonic
from typing import Any, Final
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, parse_url
from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from fleek.api.admission import RELEASE_BODY, SAFE, TICKET, Ticket, WriteLimits
from fleek.api.direct import WHOLE
from fleek.api.errors import ErrorForm
from fleek.api.peers import Peers
from fleek.domain.errors import (
    CapacityExceeded,
    FleekError,
    HeadersTooLarge,
    Overloaded,
    RequestTimeout,
    Unreadable,
    UriTooLong,
)
from fleek.domain.values import dataclass
from fleek.front import refusal
from fleek.front.connections import BodyBudget, Connections, UnsentBudget
from fleek.front.exchange import Exchange
from fleek.front.limits import Limits
from fleek.front.transport import GentleTransport
from fleek.settings import Settings

SLICE_BYTES: Final = 16 * 1024  # parsed between two checks of sizes
MAX_FRAMING: Final = 2  # raw bytes per byte of a body
LARGE_BODY_RATE: Final = 256 * 1024  # bytes of a large body that extend its deadline by a second
STALLS: Final = 6  # intervals of a body's time, in each of which bytes must be received


class Front:
    """The state shared by all connections of a process."""

    def __init__(
        self,
        settings: Settings,
        *,
        refusals: Counter,
        writes: WriteLimits,
        forms: Mapping[str, ErrorForm] | None = None,
    ) -> None:
        self.limits = limits = Limits.of(settings)
        self.connections = Connections(
            limits.connections,
            limits.connections_per_peer,
            proxies=Peers(settings.forwarded_allow_ips),
        )
        self.bodies = BodyBudget(limits.body_bytes)
        self.unsent = UnsentBudget(limits.unsent_bytes)
        self.refusals = refusals
        self.writes = writes
        self.forms = forms or {}  # of errors, by the first part of the path


class Reading(Enum):
    """The part of a request that is being received."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


@dataclass(slots=True, eq=False)
class Arrival:
    """Counters of a request's received bytes."""

    head_bytes: int = 0  # raw, of slices that contain only the head
    field_bytes: int = 0
    fields: int = 0
    body_bytes: int = 0
    framing_bytes: int = 0


class GuardedProtocol(HttpToolsProtocol):
    """One connection; `front` is shared by all."""

    transport: GentleTransport
    timeout_keep_alive: float  # type: ignore[assignment]  # the library accepts fractions, too
    cycle: RequestResponseCycle | None  # type: ignore[assignment]  # the library declares it as never None

    def __init__(self, front: Front, **options: Any) -> None:
        super().__init__(**options)
        self.peer = ""
        self._front = front
        self._limits = front.limits
        self.timeout_keep_alive = front.limits.keep_alive_seconds
        self._reading = Reading.NOTHING
        self._arrival = Arrival()
        self._ticket: Ticket | None = None
        self._answered: RequestResponseCycle | None = None
        self._refused = False
        self._discarded = 0
        self._lost = False
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_of: tuple[Reading, Arrival] | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    # --- the connection -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Add the connection, unless there are too many."""
        super().connection_made(GentleTransport(transport, self))
        self.peer = self.client[0] if self.client else ""
        if self._front.connections.admit(self):
            self._set_deadline()
        else:
            self._refuse(CapacityExceeded("too many connections"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything that belongs to the connection."""
        self._lost = True
        self._front.connections.leave(self)
        self._front.bodies.release(self)
        self._front.unsent.release(self)
        if self._ticket is not None:
            self._ticket.close()
        for timer in (self._deadline, self._write_deadline, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        if (
            self._answered is not None
        ):  # the library tells the latest request, which may still be queued
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def close_gently(self) -> None:
        """Close after pending writes; a client that is still sending may read the response first."""
        if self._lost:
            return
        self._front.connections.end(self)
        if self._reading is Reading.NOTHING:
            self._close()
            return
        self._refused = True  # further input is discarded
        self.flow.resume_reading()
        self.transport.half_close()
        self._start_deadline(self._limits.linger_seconds, self._close)

    def _close(self) -> None:
        self.transport.finish()
        self._watch_reader(self.transport.get_write_buffer_size())

    # --- input ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Feed the parser in slices, and check sizes and deadlines."""
        if self._refused:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        try:
            for part in _slices(data):
                self._feed(part)
        except HttpParserError as error:
            ours = error.__context__
            message = "the request is not valid HTTP/1.1 (RFC 9112)"
            self._refuse(ours if isinstance(ours, FleekError) else Unreadable(message))
        except FleekError as error:
            self._refuse(error)
        else:
            self._set_deadline()

    def _feed(self, data: bytes | memoryview) -> None:
        before, arrival = self._reading, self._arrival
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:  # not supported: continue with HTTP/1.1
            if rest := data[upgrade.args[0] :]:
                self._feed(rest)
        if self._arrival is not arrival or self._reading is not before:
            return
        if before is Reading.HEAD:
            arrival.head_bytes += len(data)
            self._check_head()
        elif before is Reading.BODY:
            arrival.framing_bytes += len(data)
            self._check_framing()

    def on_message_begin(self) -> None:
        """Reset the counters."""
        super().on_message_begin()
        self._reading = Reading.HEAD
        self._arrival = Arrival()

    def on_url(self, url: bytes) -> None:
        """Add a part of the address."""
        super().on_url(url)
        if len(self.url) > self._limits.url_bytes:
            raise UriTooLong(f"the address must have at most {self._limits.url_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header field; trailers are counted and ignored."""
        if self._reading is Reading.BODY:
            self._arrival.framing_bytes += len(name) + len(value)
            return
        arrival, limits = self._arrival, self._limits
        arrival.fields += 1
        arrival.field_bytes += len(name) + len(value)
        if arrival.fields > limits.fields or arrival.field_bytes > limits.head_bytes:
            self._check_head()
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the request, or queue it after earlier ones."""
        self._check_framed()
        if not self.url.startswith(b"/"):
            raise Unreadable("the target of a request must be a path, such as /api/v1/jobs")
        if len(self.pipeline) >= self._limits.pipelined:
            raise CapacityExceeded("too many requests at once on this connection")
        self._admit()
        self.scope[RELEASE_BODY] = self._release_body  # type: ignore[typeddict-unknown-key]  # ours
        self.scope[WHOLE] = True  # type: ignore[typeddict-unknown-key]  # ours
        self._complete_scope()
        self._begin_exchange()
        self._reading = Reading.BODY
        self._front.connections.begin(self)

    def _complete_scope(self) -> None:
        """Describe the request for the application, as the library does."""
        scope, version = self.scope, self.parser.get_http_version()
        if version != "1.1":
            scope["http_version"] = version
        target = parse_url(self.url)
        path = target.path.decode("ascii")
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = target.path
        scope["query_string"] = target.query or b""

    def _begin_exchange(self) -> None:
        """Let the application answer, after earlier requests of this connection."""
        earlier = self.cycle
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self.scope["http_version"] != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if earlier is None or earlier.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Remember which request is being answered."""
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _admit(self) -> None:
        """Refuse a write that is too many, before anything else is done for it.

        So thousands at once have their answers within a second. The application decides on requests
        that wait for their turn, and on those with an origin: a page of another site could not read
        a refusal that comes from here.
        """
        if self._answering() or self.parser.get_method().decode("ascii") in SAFE:
            return
        if any(name == b"origin" for name, _ in self.headers):
            return
        self._ticket = self._front.writes.of(self.url.decode("latin-1")).ticket()
        if self._ticket is None:
            raise Overloaded("too many concurrent writes")
        self.scope[TICKET] = self._ticket  # type: ignore[typeddict-unknown-key]  # ours

    def on_body(self, body: bytes) -> None:
        """Add a part of the body, within the budget."""
        self._arrival.body_bytes += len(body)
        if not self._answering():
            self._discard(len(body))
        elif self._front.bodies.take(self, len(body)):
            super().on_body(body)
        else:
            raise CapacityExceeded(
                "the server has too many bytes of requests in memory; send the request again later"
            )

    def _release_body(self) -> None:
        """Count what has come of the body no more: its reader has let it go."""
        self._front.bodies.release(self)

    def on_message_complete(self) -> None:
        """Record that the request is complete."""
        self._reading = Reading.NOTHING
        if self._ticket is not None:
            self._ticket.arrived_at = monotonic()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Continue with the next request, or become idle."""
        if self._ticket is not None:
            self._ticket.close()
        super().on_response_complete()
        if self.pipeline or self._answering():
            return
        self._front.bodies.release(self)
        if not self.transport.is_closing():
            self._front.connections.end(self)

    def _check_framed(self) -> None:
        """Refuse a body whose end a proxy could interpret differently (request smuggling)."""
        framed = {name for name, _ in self.headers} & {b"content-length", b"transfer-encoding"}
        if self.parser.should_upgrade() and framed:
            raise Unreadable("Upgrade is not supported, and not accepted in a request with a body")
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and self.parser.get_http_version() != "1.1":
            raise Unreadable("HTTP/1.0 does not have Transfer-Encoding")
        if codings not in ([], [b"chunked"]):
            raise Unreadable(
                "Transfer-Encoding must be chunked alone: compression is not accepted"
            )

    def _check_head(self) -> None:
        if self._arrival.fields > self._limits.fields:
            raise HeadersTooLarge(f"at most {self._limits.fields} header fields are accepted")
        if max(self._arrival.head_bytes, self._arrival.field_bytes) > self._limits.head_bytes:
            raise HeadersTooLarge(f"headers must have at most {self._limits.head_bytes} bytes")

    def _check_framing(self) -> None:
        framing = self._arrival.framing_bytes - self._limits.framing_bytes
        if framing > MAX_FRAMING * self._arrival.body_bytes:
            raise Unreadable("the body has more chunk extensions or trailers than content")

    def _discard(self, count: int) -> None:
        """Discard unwanted input; beyond a limit, stop reading."""
        self._discarded += count
        if self._discarded > self._limits.linger_bytes:
            self.transport.close()
            self.flow.pause_reading()

    # --- output ---------------------------------------------------------------------------------

    def _refuse(self, error: FleekError) -> None:
        """Respond with an error and close, after the responses to earlier requests."""
        self._front.refusals.labels(error.code).inc()
        self._refused = True
        if self._deadline is not None:
            self._deadline.cancel()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._reading is not Reading.BODY:  # its request is complete
                cycle.keep_alive = False
                return
            if self.pipeline or cycle.response_started:
                self.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(
            refusal.response(
                error,
                target=b"" if self._reading is Reading.NOTHING else self.url,
                forms=self._front.forms,
                default_headers=self.server_state.default_headers,
            )
        )
        self.transport.close()

    def pause_writing(self) -> None:
        """Set the deadline for reading the response."""
        super().pause_writing()
        size = self.transport.get_write_buffer_size()
        self._front.unsent.add(self, size, now=self.loop.time())
        self._watch_reader(self.transport.get_unread_size())

    def resume_writing(self) -> None:
        """Clear the deadline: the response is being read."""
        super().resume_writing()
        self._front.unsent.release(self)
        if self._write_deadline is not None:
            self._write_deadline.cancel()

    def _watch_reader(self, size: int) -> None:
        def look() -> None:
            left = self.transport.get_unread_size()
            if size - left < seconds * self._limits.min_rate:
                self.abort()
            else:
                self._watch_reader(left)

        seconds = self._limits.response_seconds
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        self._write_deadline = self.loop.call_later(seconds, look)

    # --- deadlines ------------------------------------------------------------------------------

    def _set_deadline(self) -> None:
        """Set the deadline for the current part of a request; none during a response."""
        idle = self._answering() or self.timeout_keep_alive_task is not None
        done = idle and self._reading is Reading.NOTHING
        waiting = None if done else (self._reading, self._arrival)
        if waiting == self._deadline_of:
            return
        self._deadline_of = waiting
        if self._deadline is not None:
            self._deadline.cancel()
        if waiting is None:
            return
        if self._reading is Reading.BODY:
            self._watch_body()
        else:
            self._start_deadline(self._limits.header_seconds, self._on_head_late)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_deadline(self, seconds: float, act: Callable[[], None]) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, act)

    def _on_head_late(self) -> None:
        if self._reading is Reading.NOTHING:
            self.transport.close()  # nothing was received: no response
        elif self.flow.read_paused:  # by this process
            self._start_deadline(self._limits.header_seconds, self._on_head_late)
        else:
            self._refuse(RequestTimeout("the headers did not arrive in time"))

    def _watch_body(self) -> None:
        window = self._limits.body_seconds / STALLS
        until = self.loop.time() + self._limits.body_seconds
        seen = self._arrival.body_bytes

        def look() -> None:
            """Refuse a body that came too slowly since the last look; else look again."""
            nonlocal seen
            came, seen = self._arrival.body_bytes - seen, self._arrival.body_bytes
            late = self.loop.time() >= until + seen / LARGE_BODY_RATE
            if (late or came < window * self._limits.min_rate) and not self.flow.read_paused:
                self._refuse(RequestTimeout("the body did not arrive in time"))
            else:
                self._start_deadline(window, look)

        self._start_deadline(window, look)


def _slices(data: bytes) -> Iterator[bytes | memoryview]:
    if len(data) <= SLICE_BYTES:
        yield data
        return
    view = memoryview(data)
    for start in range(0, len(view), SLICE_BYTES):
        yield view[start : start + SLICE_BYTES]
