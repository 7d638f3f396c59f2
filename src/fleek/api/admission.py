"""Admission control: limits concurrent writes to the number that end in time.

The limit adapts to the machine: it grows while writes end in time and shrinks when they do not
(additive increase, multiplicative decrease, as in TCP). Callbacks of providers have a limit of their own:
a hundred predictions that end at once would else take the room of those who submit jobs, and the reverse.

Source: https://www.rfc-editor.org/rfc/rfc5681 and https://aws.amazon.com/builders-library/using-load-shedding-to-avoid-overload/
"""

from collections.abc import Callable
from dataclasses import field
from time import monotonic
from typing import Final

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleek.api.errors import answer
from fleek.domain.errors import Overloaded
from fleek.domain.values import dataclass
from fleek.store.batcher import arrived_at

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
IN_TIME: Final = 0.5  # seconds; slower writes reduce the limit
FIRST: Final = 100  # the limit at the start
FEWEST: Final = 32
MOST: Final = 4096
SHRINK: Final = 0.7
TICKET: Final = "fleek.ticket"  # in the scope of a request that was admitted by its headers
CALLBACKS: Final = "/webhooks/"  # what their paths begin with
UNTIMED: Final = "fleek.untimed"  # in that of one whose duration says nothing about others
RELEASE_BODY: Final = "fleek.release_body"  # to be called when the parts so far are let go

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Ticket:
    """The admission of a write whose headers have come, and which has not started yet."""

    limit: "Limit"
    open: bool = True
    arrived_at: float = field(default_factory=monotonic)  # the whole request, as far as it has

    def close(self) -> None:
        """Count it no more: it has started, or it never will."""
        if self.open:
            self.open = False
            self.limit.expected -= 1


class Limit:
    """The adaptive limit on concurrent writes."""

    def __init__(self, *, first: int = FIRST, clock: Callable[[], float] = monotonic) -> None:
        self.now = clock
        self.under_way = 0
        self.expected = 0  # admitted by their headers, and not started yet
        self.most = float(first)
        self._shrunk_at = float("-inf")
        self._refused = False  # since it grew or shrank

    def admits(self) -> bool:
        """Whether another write may start."""
        full = self.under_way + self.expected >= self.most
        self._refused = self._refused or full
        return not full

    def ticket(self) -> Ticket | None:
        """Admit a write by its headers, before anything is done for it; None: it is refused.

        Whoever takes the ticket closes it, at the latest with the response.
        """
        if not self.admits():
            return None
        self.expected += 1
        return Ticket(self)

    def ended(self, seconds: float) -> None:
        """Adjust the limit to the duration of a write."""
        now = self.now()
        if seconds <= IN_TIME:
            if self._refused:
                self.most = min(self.most + 1, MOST)
                self._refused = False
        elif (
            now - self._shrunk_at > IN_TIME
        ):  # once for all writes that were slow at the same time
            self._shrunk_at = now
            self.most = max(self.most * SHRINK, FEWEST)
            log.warning("writes_too_slow", seconds=round(seconds, 2), limit=int(self.most))


class WriteLimits:
    """The limits of one process."""

    def __init__(self, callers: Limit | None = None, callbacks: Limit | None = None) -> None:
        self.callers = callers or Limit()
        self.callbacks = callbacks or Limit()

    def of(self, path: str) -> Limit:
        """Return the limit for a request to this path."""
        return self.callbacks if path.startswith(CALLBACKS) else self.callers


class Admission:
    """Refuses writes beyond the limit; reads and health checks are never refused here."""

    def __init__(self, app: ASGIApp, *, limits: WriteLimits | None = None) -> None:
        self._app = app
        self._limits = limits or WriteLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. The time for receiving the body does not count."""
        if scope["type"] != "http" or scope["method"] in SAFE:
            await self._app(scope, receive, send)
            return
        limit = self._limits.of(scope["path"])
        ticket: Ticket | None = scope.get(TICKET)
        if ticket is not None and ticket.open:
            ticket.close()
        elif not limit.admits():
            refusal = answer(Request(scope), Overloaded("too many concurrent writes"))
            await refusal(scope, receive, send)
            return
        began = limit.now()

        async def uncounted() -> Message:
            """Receive a part of the request; what waits for its caller is not under way."""
            nonlocal began
            limit.under_way -= 1
            try:
                return await receive()
            finally:
                limit.under_way += 1
                began = limit.now()
                arrived_at.set(monotonic() if ticket is None else ticket.arrived_at)

        limit.under_way += 1
        try:
            await self._app(scope, uncounted, send)
        finally:
            limit.under_way -= 1
            if UNTIMED not in scope:
                limit.ended(limit.now() - began)
