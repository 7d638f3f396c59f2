"""The HTTP client for calls to other hosts: it vets addresses, keeps connections, sends once.

It wraps aiohttp's client. An address that may not be called raises `UnsafeAddress`; every other
failure is `NotSent` or `ResponseLost`, and the difference is money: `NotSent` is raised only where
there was no connection to send the request over. Once there was one, the host may have received
the request, whatever the error says.
"""

import asyncio
import re
import select
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from socket import AddressFamily
from typing import Any, Final, Protocol
from urllib.parse import urljoin
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from yarl import URL

from fleek.outbound.addresses import (
    BLANKS,
    LOOKUP_SECONDS,
    Policy,
    Resolve,
    UnsafeAddress,
    normalized,
    parse,
    resolve,
)

MAX_HOPS: Final = 3  # redirects
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MAX_CONNECTIONS: Final = 256  # in use at once
KEPT_SECONDS: Final = 4.0  # idle connections; many servers close theirs after 5
MAX_HEADER: Final = 32_768  # bytes of one header of a response
MAX_HEADERS: Final = 256  # of a response
READ_AHEAD: Final = 65_536  # bytes of a body
LARGE_BODY: Final = 1_048_576  # bytes of a request

_WRITABLE: Final = re.compile(r"[\t -~]*")
_REASONS: Final[Mapping[type[Exception], str]] = {
    aiohttp.ClientProxyConnectionError: "the proxy cannot be reached",
    aiohttp.ClientConnectorDNSError: "the host's address cannot be found",
    TimeoutError: "no connection in time",
}
_FAILURES: Final = (aiohttp.ClientError, HttpProcessingError, OSError)


class CallFailed(Exception):
    """A call ended without a whole response. The message never holds what was sent."""


class NotSent(CallFailed):
    """No byte of the request was sent to the host."""


class ResponseLost(CallFailed):
    """The request may have been received, and no whole response came.

    Args:
        message: What happened.
        late: It did not come in time.
        malformed: What came is not HTTP, or more than the response's own length.
    """

    def __init__(self, message: str, *, late: bool = False, malformed: bool = False) -> None:
        super().__init__(message)
        self.late = late
        self.malformed = malformed


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose body is still to be read.

    Args:
        status: HTTP's.
        headers: By lower-case name; the values of a repeated one are joined with commas.
        body: The bytes as they come, not decompressed; raises `ResponseLost`.
    """

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an address that the policy allows.

    Args:
        method: GET, POST, PUT.
        url: Where to.
        content: The body.
        headers: Added to those of the client.
        read: Seconds for the next bytes of the response; None: no limit.
    """

    method: str
    url: URL
    content: bytes
    headers: Mapping[str, str]
    read: float | None


class Network(Protocol):
    """Sends requests. A test may stand in for it."""

    def send(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Send a request once and give the response; raises `CallFailed` or `UnsafeAddress`."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class Client:
    """Calls what a policy allows. It keeps no cookies and follows redirects only in `follow`.

    Args:
        policy: Which addresses may be called.
        network: What sends the requests.
        headers: Added to every request.
        read: Seconds for the next bytes of a response.
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
        self._network = network or Connections(policy)
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
        """Send a request, once, and give the response with its body unread.

        `wait`: the response may take as long as it likes.

        Raises:
            UnsafeAddress: The policy, or an address of the host, forbids it.
            NotSent, ResponseLost: It failed.
        """
        url = parse(address, self.policy)
        sent = {**self._headers, **(headers or {})}
        for name, value in sent.items():
            if not _WRITABLE.fullmatch(value):
                raise NotSent(f"the header {name} has a character that cannot be sent")
        request = Request(method, url, content, sent, None if wait else self._read)
        async with self._network.send(request) as response:
            yield response

    @asynccontextmanager
    async def follow(self, address: str) -> AsyncGenerator[Response]:
        """GET an address, follow redirects, and give the response with its body unread.

        Raises:
            UnsafeAddress: The address, or one that it redirects to, may not be called.
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
        await self._network.close()


class Connections:
    """Sends requests with aiohttp, over connections to vetted addresses that are kept.

    Certificates are checked against the host's name. Nothing is opened before the first request.

    Args:
        policy: Which addresses may be called.
        connect: Seconds for one address of a host, TLS included; twice as many in all.
        tls: How certificates are checked; None: as `tls_context` does.
        proxy: The address of a proxy for all requests, with CONNECT for https. No other is used.
        limit: How many requests are under way at once; 0: any number.
        resolve: Resolves hosts.
        resolve_seconds: How long that may take.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        connect: float = 5.0,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        limit: int = MAX_CONNECTIONS,
        resolve: Resolve = resolve,
        resolve_seconds: float = LOOKUP_SECONDS,
    ) -> None:
        self._limit = limit
        self._connect = connect
        self._tls = tls
        self._proxy = None if proxy is None else URL(proxy)
        self._resolver = Resolver(policy, resolve, resolve_seconds, self._proxy)
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncGenerator[Response]:
        """Send a request once and give the response.

        Raises:
            UnsafeAddress: An address of the host forbids it.
            NotSent, ResponseLost: It failed.
        """
        timeout = aiohttp.ClientTimeout(
            connect=2 * self._connect, sock_connect=self._connect, sock_read=request.read
        )
        try:
            session = self._opened()
        except OSError as error:
            raise NotSent("the CA certificates cannot be read") from error
        try:
            response = await session.request(
                request.method,
                request.url,
                data=_payload(request.content),
                headers=request.headers,
                timeout=timeout,
                allow_redirects=False,
            )
        except _FAILURES as error:
            raise _lost(error) from error
        try:
            yield Response(response.status, _headers(response), _body(response))
        finally:
            response.close()  # after the whole body, the connection is back among the kept ones

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = _Connector(
                ssl=self._tls or tls_context(),
                resolver=self._resolver,
                use_dns_cache=False,
                limit=self._limit,
                keepalive_timeout=KEPT_SECONDS,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                middlewares=(_send_once,),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"user-agent": "fleek"},
                skip_auto_headers=("content-type",),
                proxy=self._proxy,
                auto_decompress=False,
                read_bufsize=READ_AHEAD,
                max_line_size=MAX_HEADER,
                max_field_size=MAX_HEADER,
                max_headers=MAX_HEADERS,
            )
        return self._session


class Resolver(AbstractResolver):
    """Resolves hosts for new connections, and refuses a host with an address that is not public.

    Hosts that the operator named, and the proxy, may have any address.
    """

    def __init__(
        self, policy: Policy, resolve: Resolve, seconds: float, proxy: URL | None
    ) -> None:
        self._policy = policy
        self._resolve = resolve
        self._seconds = seconds
        self._proxy = None if proxy is None else (proxy.raw_host, proxy.port)

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return every address of a host.

        Raises:
            UnsafeAddress: One of them is not public.
            OSError: There is none, or none was found in time.
        """
        async with asyncio.timeout(self._seconds):
            addresses = await self._resolve(host, port)
        if not addresses:
            raise OSError("the host has no address")
        named = self._policy.names(host, port) or (host, port) == self._proxy
        if not named and not all(self._policy.admits(ip, port) for ip in addresses):
            raise UnsafeAddress("the host has an address that is not public", host=host)
        return [
            ResolveResult(hostname=host, host=ip, port=port, family=family, proto=0, flags=0)
            for ip in addresses
        ]

    async def close(self) -> None:
        """Do nothing: nothing is open."""


class _Connector(aiohttp.TCPConnector):
    """Makes the connection before a request is sent, so whatever fails here was not sent."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the library's signature
    ) -> Connection:
        """Return a new connection, or a kept one that is still good.

        Raises:
            UnsafeAddress: The host has an address that is not public.
            NotSent: There is no connection.
        """
        try:
            while True:
                connection = await super().connect(req, traces, timeout)
                protocol = connection.protocol
                assert protocol is not None
                if protocol not in self._used:
                    self._used.add(protocol)
                    return connection
                if _is_quiet(protocol):
                    return connection
                connection.close()
        except (*_FAILURES, RuntimeError, ValueError) as error:
            raise NotSent(_why(error)) from error


def _is_quiet(protocol: ResponseHandler) -> bool:
    """Whether a kept connection is open and nothing has come over it since its last response.

    The event loop may not have seen yet that the host has closed it, so the socket is asked.
    """
    transport = protocol.transport
    socket = None if transport is None else transport.get_extra_info("socket")
    if socket is None or protocol.should_close:
        return False
    poller = select.poll()
    poller.register(socket.fileno(), select.POLLIN)
    return not poller.poll(0)


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Hide failures from the client's own retries, which send a GET or a PUT a second time."""
    try:
        return await handler(request)
    except _FAILURES as error:
        raise _lost(error) from error


def _payload(content: bytes) -> bytes | BytesIO | None:
    """Return a body in the form in which the library sends it without holding up the loop."""
    return BytesIO(content) if len(content) > LARGE_BODY else content or None


def _lost(error: Exception) -> ResponseLost:
    if isinstance(error, TimeoutError):
        return ResponseLost("no response in time", late=True)
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return ResponseLost("the response is not valid HTTP", malformed=True)
    return ResponseLost(f"the connection was lost: {_named(error)}")


def _why(error: Exception) -> str:
    """Return why there is no connection, without the address, which may hold a password."""
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refuses: {error.status} {error.message}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the host's certificate is refused: {error.certificate_error}"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return f"no connection: {getattr(cause, 'strerror', None) or _named(cause)}"


def _named(error: Exception) -> str:
    return type(error).__name__


def _headers(response: aiohttp.ClientResponse) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.raw_headers:
        name, value = raw_name.decode("ascii", "replace").lower(), _text(raw_value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


async def _body(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    try:
        while chunk := await response.content.readany():
            yield chunk
    except _FAILURES as error:
        raise _lost(error) from error


def tls_context() -> ssl.SSLContext:
    """Return what checks certificates by the CAs of ``SSL_CERT_FILE``, or of the system.

    They are found as `fleek.Client` finds them.
    """
    from httpx2 import create_ssl_context  # noqa: PLC0415 - a tenth of a second, for this alone

    context = create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
