"""Bytes that all connections of a process hold together."""

from typing import Final

from fleek.front.connections import Connection

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
