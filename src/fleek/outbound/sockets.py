"""WebSockets to addresses that a policy allows: they are listened to, and nothing is sent."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from fleek.outbound.addresses import Policy, parse
from fleek.outbound.connections import Connections

MAX_MESSAGE: Final = 16 * 1_048_576  # bytes


class Sockets:
    """Opens WebSockets, without redirects.

    Args:
        policy: The allowed addresses.
        connections: Opens them.
        headers: Of each request.
        most: Maximum size of a message in bytes.
    """

    def __init__(
        self,
        policy: Policy,
        connections: Connections,
        *,
        headers: Mapping[str, str] | None = None,
        most: int = MAX_MESSAGE,
    ) -> None:
        self._policy = policy
        self._connections = connections
        self._headers = headers or {}
        self._most = most

    @asynccontextmanager
    async def listen(self, address: str) -> AsyncGenerator[AsyncIterator[str]]:
        """Open a WebSocket at an http or https address, and yield its text messages until it is closed.

        Raises:
            UnsafeAddress: The policy forbids it, for the address or an IP address of the host.
            NotSent, ResponseLost: It failed.
        """
        url = parse(address, self._policy)
        async with self._connections.listen(url, self._headers, most=self._most) as texts:
            yield texts
