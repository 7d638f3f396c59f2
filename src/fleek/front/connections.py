"""Who is connected: how many in all and from each peer, and who has to make room."""

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
        self._networks = [ip_network(one, strict=False) for one in listed if one != ANY]

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
