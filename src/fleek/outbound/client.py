"""The HTTP client for calls to other hosts: checks addresses, follows redirects, sends once.

An address that may not be called raises `UnsafeAddress`; every other failure is `NotSent` or
`ResponseLost`. The difference matters for costs: `NotSent` is raised only if there was no
connection for the request. With a connection, the host may have received the request, for any
error.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol
from urllib.parse import urljoin

from opentelemetry.trace import SpanKind
from yarl import URL

from fleek.domain.text import BLANKS
from fleek.domain.values import dataclass
from fleek.outbound.addresses import Policy, UnsafeAddress, normalized, parse
from fleek.tracing import span

MAX_HOPS: Final = 3  # redirects
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_WRITABLE: Final = re.compile(r"[\t -~]*")


class CallFailed(Exception):
    """A call failed without a complete response. The message never contains the request."""


class NotSent(CallFailed):
    """No byte of the request was sent to the host."""


class ResponseLost(CallFailed):
    """The request may have been received, and there was no complete response.

    Args:
        message: The reason.
        late: There was no response in time.
        malformed: The response is not valid HTTP, or longer than announced.
    """

    def __init__(self, message: str, *, late: bool = False, malformed: bool = False) -> None:
        super().__init__(message)
        self.late = late
        self.malformed = malformed


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose body was not read yet.

    Args:
        status: The HTTP status.
        headers: With names in lower case; values of a repeated one are joined with commas.
        body: The raw bytes, not decompressed; raises `ResponseLost`.
    """

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an allowed address.

    Args:
        method: GET, POST, PUT.
        url: The address.
        content: The body.
        headers: Added to those of the client.
        read: Maximum time between bytes of the response, in seconds; None: unlimited.
    """

    method: str
    url: URL
    content: bytes
    headers: Mapping[str, str]
    read: float | None


class Network(Protocol):
    """Sends requests; replaced in tests."""

    def send(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Send a request once and return the response; raises `CallFailed` or `UnsafeAddress`."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class Client:
    """Calls addresses that a policy allows, without cookies; only `follow` follows redirects.

    Args:
        policy: The allowed addresses.
        network: Sends the requests; None: `Connections` that are opened with the first one.
        headers: Added to every request.
        read: Maximum time between bytes of a response, in seconds.
    """

    def __init__(
        self,
        policy: Policy,
        network: Network | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        read: float = 30.0,
    ) -> None:
        self.policy = policy
        self._network = network
        self._headers = {"accept-encoding": "identity", **(headers or {})}
        self._read = read

    @asynccontextmanager
    async def open(
        self,
        method: str,
        address: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        wait: bool = False,
    ) -> AsyncGenerator[Response]:
        """Send a request once, and yield the response before its body is read.

        `wait`: the response may take any time.

        Raises:
            UnsafeAddress: The policy forbids it, for the address or an IP address of the host.
            NotSent, ResponseLost: It failed.
        """
        url = parse(address, self.policy)
        sent = {**self._headers, **(headers or {})}
        for name, value in sent.items():
            if not _WRITABLE.fullmatch(value):
                raise NotSent(f"the header {name} has a character that cannot be sent")
        request = Request(method, url, content, sent, None if wait else self._read)
        with span(
            method,
            kind=SpanKind.CLIENT,
            http__request__method=method,
            server__address=url.host,
            server__port=url.port,
        ) as current:
            async with self._opened().send(request) as response:
                current.set_attribute("http.response.status_code", response.status)
                yield response

    @asynccontextmanager
    async def follow(self, address: str) -> AsyncGenerator[Response]:
        """GET an address, follow redirects, and yield the response before its body is read.

        Raises:
            UnsafeAddress: The address, or the target of a redirect, may not be called.
            NotSent, ResponseLost: It failed.
        """
        for _ in range(MAX_HOPS + 1):
            async with self.open("GET", address) as response:
                if response.status not in REDIRECTS:
                    yield response
                    return
                location = response.headers.get("location", "").strip(BLANKS)
                address = normalized(urljoin(address, location))
        raise UnsafeAddress(f"the address redirects more than {MAX_HOPS} times")

    async def close(self) -> None:
        """Close all connections."""
        if self._network is not None:
            await self._network.close()

    def _opened(self) -> Network:
        if self._network is None:
            from fleek.outbound.connections import Connections  # noqa: PLC0415 - heavy

            self._network = Connections(self.policy)
        return self._network
