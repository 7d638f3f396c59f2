"""Connections to other hosts: sends requests with aiohttp, over kept connections, once."""

import asyncio
import errno
import os
import select
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import cache
from io import BytesIO
from socket import AddressFamily
from typing import Any, Final
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from yarl import URL

from fleek.outbound.addresses import LOOKUP_SECONDS, Policy, Resolve, UnsafeAddress, resolve
from fleek.outbound.client import REDIRECTS, NotSent, Request, Response, ResponseLost

MAX_CONNECTIONS: Final = 256  # concurrent ones
KEPT_SECONDS: Final = 4.0  # for idle connections; many servers close them after 5
MAX_HEADER: Final = 32_768  # bytes of one header of a response
MAX_HEADERS: Final = 256  # of a response
READ_AHEAD: Final = 65_536  # bytes of a body
LARGE_BODY: Final = 1_048_576  # bytes of a request
PING_SECONDS: Final = 30.0  # between pings over a WebSocket; without a response it is lost
CLOSE_SECONDS: Final = 1.0  # for the last message of a WebSocket

_REASONS: Final[Mapping[type[Exception], str]] = {
    aiohttp.ClientProxyConnectionError: "the proxy cannot be reached",
    aiohttp.ClientConnectorDNSError: "the host cannot be resolved",
    TimeoutError: "no connection in time",
}
_FAILURES: Final = (aiohttp.ClientError, HttpProcessingError, OSError)


class Connections:
    """Sends requests with aiohttp, over a pool of connections to checked addresses.

    Certificates are checked. No connection is opened before the first request.

    Args:
        policy: The allowed addresses.
        connect: Maximum time per IP address, including TLS, in seconds; in total, twice as long.
        tls: For checking certificates; None: `tls_context`.
        proxy: Address of the only proxy, for all requests, with CONNECT for https.
        limit: Maximum number of concurrent requests; 0: unlimited.
        resolve: Resolves hosts.
        resolve_seconds: Maximum time for that, in seconds.
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
        """Send a request once, and yield the response.

        Raises:
            UnsafeAddress: An IP address of the host is not allowed.
            NotSent, ResponseLost: It failed.
        """
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
                timeout=_timeout(self._connect, request.read),
                allow_redirects=False,
            )
        except _FAILURES as error:
            raise _lost(error) from error
        try:
            yield Response(response.status, _headers(response), _body(response))
        finally:
            response.close()  # after a complete body, the connection is already back in the pool

    @asynccontextmanager
    async def listen(
        self, url: URL, headers: Mapping[str, str], *, most: int
    ) -> AsyncGenerator[AsyncIterator[str]]:
        """Open a WebSocket, and yield its text messages; binary ones are left out.

        It ends when the host closes it, and with a message of more than `most` bytes.

        Raises:
            UnsafeAddress: An IP address of the host is not allowed.
            NotSent, ResponseLost: It failed.
        """
        timeout = aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS)
        try:
            async with asyncio.timeout(2 * self._connect):
                socket = await self._opened().ws_connect(
                    url,
                    headers=headers,
                    timeout=timeout,
                    heartbeat=PING_SECONDS,
                    max_msg_size=most,
                )
        except _FAILURES as error:
            raise _lost(error) from error
        try:
            async with aclosing(_texts(socket)) as texts:
                yield texts
        finally:
            await socket.close()

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
    """Resolves hosts for new connections, and refuses hosts with an IP address that is not public.

    Hosts from the settings, and the proxy, may have any IP address.
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
        """Return all IP addresses of a host.

        Raises:
            UnsafeAddress: One of them is not public.
            OSError: There is none, or the name server did not respond in time.
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
        """Do nothing: there is nothing to close."""


class _Connector(aiohttp.TCPConnector):
    """Makes the connection before a request is sent: after a failure here, nothing was sent."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the library's signature
    ) -> Connection:
        """Return a new connection, or a usable one from the pool.

        Raises:
            UnsafeAddress: The host has an IP address that is not public.
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
    """Whether an idle connection is open, without data since its last response.

    The event loop may not have processed a close by the host yet, so the socket is checked.
    """
    transport = protocol.transport
    socket = None if transport is None else transport.get_extra_info("socket")
    if socket is None or protocol.should_close:
        return False
    poller = select.poll()
    poller.register(socket.fileno(), select.POLLIN)
    return not poller.poll(0)


@cache
def _timeout(connect: float, read: float | None) -> aiohttp.ClientTimeout:
    """Return the limits of a call in seconds; made anew, they take as long as its address."""
    return aiohttp.ClientTimeout(connect=2 * connect, sock_connect=connect, sock_read=read)


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Disable the client's own retries, which would repeat a GET or a PUT, and its redirects."""
    try:
        response = await handler(request)
    except _FAILURES as error:
        raise _lost(error) from error
    if "sec-websocket-key" in request.headers and response.status in REDIRECTS:
        response.close()  # the library would follow it, whatever the policy says
        raise ResponseLost("the host redirects the WebSocket")
    return response


def _payload(content: bytes) -> bytes | BytesIO | None:
    """Return a body in the form that the library sends without blocking the event loop."""
    return BytesIO(content) if len(content) > LARGE_BODY else content or None


def _lost(error: Exception) -> ResponseLost:
    if isinstance(error, TimeoutError):
        return ResponseLost("no response in time", late=True)
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return ResponseLost("the response is not valid HTTP", malformed=True)
    return ResponseLost(f"the connection was lost: {_named(error)}")


def _why(error: Exception) -> str:
    """Return why there is no connection, without the address, which may contain a password."""
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refuses: {error.status} {error.message}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the host's certificate is refused: {error.certificate_error}"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    words = str(getattr(cause, "strerror", None) or _named(cause))
    if words.startswith("Connect call failed"):  # asyncio names the IP address in it
        words = os.strerror(getattr(cause, "errno", None) or errno.ECONNREFUSED)
    return f"no connection: {words}"


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


async def _texts(socket: aiohttp.ClientWebSocketResponse[bool]) -> AsyncGenerator[str]:
    try:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                yield message.data
    except _FAILURES as error:
        raise _lost(error) from error


def tls_context() -> ssl.SSLContext:
    """Return a context that checks certificates with the CAs of ``SSL_CERT_FILE`` or the system.

    All connections of the process share it, as reading the CAs takes a while. `fleek.Client` uses
    the same.
    """
    return _context(ssl.get_default_verify_paths())


@cache
def _context(_paths: ssl.DefaultVerifyPaths) -> ssl.SSLContext:
    from httpx2 import create_ssl_context  # noqa: PLC0415 - the import takes a tenth of a second

    context = create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
