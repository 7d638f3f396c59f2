"""Limits on the connections of a process: in total and per peer, and on their memory."""

from collections import Counter
from typing import Final, Protocol

from fleek.api.peers import Peers


class Connection(Protocol):
    """A connection, as far as this module uses it."""

    peer: str

    def abort(self) -> None:
        """Close it at once."""


class Connections:
    """All connections of one process.

    If there are too many, the one that has been idle for longest is closed: first those without a
    completed request, then those between two requests. A request in progress is never interrupted.
    """

    def __init__(self, limit: int, per_peer: int, *, proxies: Peers) -> None:
        self._limit = limit
        self._per_peer = per_peer
        self._proxies = proxies  # without a limit per peer
        self._open: set[Connection] = set()
        self._peers: Counter[str] = Counter()
        self._silent: dict[Connection, None] = {}  # without a request so far; oldest first
        self._idle: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Add a new connection; False: there are too many."""
        peer = connection.peer
        if self._peers[peer] >= self._per_peer and peer not in self._proxies:
            return False
        if len(self._open) >= self._limit and not self._make_room():
            return False
        self._open.add(connection)
        self._peers[peer] += 1
        self._silent[connection] = None
        return True

    def begin(self, connection: Connection) -> None:
        """Record that a request is in progress."""
        self._silent.pop(connection, None)
        self._idle.pop(connection, None)

    def end(self, connection: Connection) -> None:
        """Record that all of its requests have responses."""
        if connection in self._open:
            self._idle[connection] = None

    def leave(self, connection: Connection) -> None:
        """Remove a connection that was closed or refused."""
        if connection not in self._open:
            return
        self.begin(connection)
        self._open.remove(connection)
        self._peers[connection.peer] -= 1
        if not self._peers[connection.peer]:
            del self._peers[connection.peer]

    def _make_room(self) -> bool:
        oldest = next(iter(self._silent), None) or next(iter(self._idle), None)
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.abort()
        return True


FREE_BYTES: Final = 16 * 1024
"""Bytes per request that do not count, as the number of connections limits them already.

So small requests are served while large ones use the whole budget.
"""


class BodyBudget:
    """Bytes of request bodies, until the response is complete."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[Connection, int] = {}
        self.total = 0

    def take(self, connection: Connection, count: int) -> bool:
        """Count received bytes; False: they exceed the budget.

        A single body is never refused: its size is limited elsewhere.
        """
        held = self._held.get(connection, 0)
        counted = max(held + count - FREE_BYTES, 0) - max(held - FREE_BYTES, 0)
        mine = max(held - FREE_BYTES, 0)
        if counted and self.total + counted > self._limit and self.total > mine:
            return False
        self._held[connection] = held + count
        self.total += counted
        return True

    def release(self, connection: Connection) -> None:
        """Release the bytes of a connection."""
        self.total -= max(self._held.pop(connection, 0) - FREE_BYTES, 0)


class UnsentBudget:
    """Bytes of responses that clients have not read yet.

    Beyond the limit, the connections with the oldest unread responses are closed, except those that
    may be reading right now.
    """

    def __init__(self, limit: int, *, patience: float = 1.0) -> None:
        self._limit = limit
        self._patience = patience
        self._unsent: dict[Connection, tuple[int, float]] = {}  # oldest first
        self._total = 0

    def add(self, connection: Connection, count: int, *, now: float) -> None:
        """Count the unread bytes of a response."""
        self.release(connection)
        self._unsent[connection] = count, now
        self._total += count
        while self._total > self._limit:
            oldest, (_, since) = next(iter(self._unsent.items()))
            if now - since < self._patience:
                return
            self.release(oldest)
            oldest.abort()

    def release(self, connection: Connection) -> None:
        """Remove a response that was read, or whose connection was closed."""
        count, _ = self._unsent.pop(connection, (0, 0.0))
        self._total -= count
