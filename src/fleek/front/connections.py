"""The connections of a process: how many in all and per peer, and how many bytes they hold."""

from collections import Counter
from ipaddress import ip_address, ip_network
from typing import Final, Protocol

ANY: Final = "*"


class Connection(Protocol):
    """What is known of a connection here."""

    peer: str

    def abort(self) -> None:
        """Close it at once."""


class Peers:
    """Addresses and networks, as in ``FORWARDED_ALLOW_IPS``: ``10.0.0.0/8,::1``, or ``*``."""

    def __init__(self, listed: tuple[str, ...]) -> None:
        self._all = ANY in listed
        self._networks = [ip_network(entry, strict=False) for entry in listed if entry != ANY]

    def __contains__(self, peer: str) -> bool:
        if self._all:
            return True
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:  # a socket that has no address
            return True
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)


class Connections:
    """All connections of one process.

    If there are too many, the one that has been idle for longest is closed: first one that has
    never completed a request, then one between two requests. A request under way is never cut.
    """

    def __init__(self, limit: int, per_peer: int, *, proxies: Peers) -> None:
        self._limit = limit
        self._per_peer = per_peer
        self._proxies = proxies  # each speaks for many callers
        self._open: set[Connection] = set()
        self._peers: Counter[str] = Counter()
        self._silent: dict[Connection, None] = {}  # oldest first, like the next one
        self._idle: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Take a new connection in; False: there is no room for it."""
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
        """Note that a request is under way."""
        self._silent.pop(connection, None)
        self._idle.pop(connection, None)

    def end(self, connection: Connection) -> None:
        """Note that its requests have been answered."""
        if connection in self._open:
            self._idle[connection] = None

    def leave(self, connection: Connection) -> None:
        """Forget a connection that is closed, or that was never taken in."""
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
"""What each request may hold outside the budget: the number of connections bounds it already.

So ordinary requests are served while others hold all of the budget.
"""


class BodyBudget:
    """Bytes of request bodies, from their arrival until the request is answered."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[Connection, int] = {}
        self.total = 0

    def take(self, connection: Connection, count: int) -> bool:
        """Count bytes that came in; False: they are too many for this process now.

        Whoever is alone is not refused: sizes of single bodies are limited elsewhere.
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
        """Forget what the connection held."""
        self.total -= max(self._held.pop(connection, 0) - FREE_BYTES, 0)


class UnsentBudget:
    """Bytes of responses that their readers have not taken yet.

    If they are too many, those that have been unread for longest are dropped, but none that a
    reader may be reading just now.
    """

    def __init__(self, limit: int, *, patience: float = 1.0) -> None:
        self._limit = limit
        self._patience = patience
        self._unsent: dict[Connection, tuple[int, float]] = {}  # the longest unread first
        self._total = 0

    def add(self, connection: Connection, count: int, *, now: float) -> None:
        """Count a response of which so much waits to be read."""
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
        """Forget a response that was read, or whose connection is closed."""
        count, _ = self._unsent.pop(connection, (0, 0.0))
        self._total -= count
