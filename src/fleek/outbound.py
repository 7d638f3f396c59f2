"""HTTP clients: one for an address that the operator chose, one guarded for those others name.

An address is read once, by one parser, and must pass the policy. Its host is looked up once, every
address that it has must be public, and the connection goes to one of those, so that nothing can
be looked up differently a second time. Redirects are followed by hand, each hop checked anew.

What is refused raises `UnsafeAddress`, whoever calls translates it; what fails on the network
raises the errors of ``httpx2``.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urljoin

import httpx2
from pydantic_core import Url

MAX_URL: Final = 2048  # characters
MAX_HOPS: Final = 3  # redirects
LOOKUP_SECONDS: Final = 3.0
BLANKS: Final = "".join(map(chr, range(0x21)))  # around an address they do not count
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_UNUSABLE: Final = re.compile(r"[^!-~]|[\\#]")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")  # no name ends so, but spellings of IPv4 do

_NOT_PUBLIC: Final = tuple(
    ip_network(network)
    for network in (
        "64:ff9b::/96",  # these five lead to IPv4 addresses, which may be anything
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "::/96",
        "fec0::/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "100.64.0.0/10",
        "168.63.129.16/32",  # a cloud's own services, on an address that looks public
        "5f00::/16",
        "100::/64",
    )
)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Looks a host up: every IP address that it has, or OSError."""


class UnsafeAddress(Exception):
    """The address is not one that may be called. The message never holds the address.

    `host` is its host, for whoever may be told.
    """

    def __init__(self, message: str, *, host: str | None = None) -> None:
        super().__init__(message)
        self.host = host


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """A host that the operator named himself, so it may be private."""

    host: str  # lower case
    port: int
    plain: bool = False  # whether http will do


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which addresses may be called: https at a public address, on a port that is listed.

    With ``patterns``, only hosts that fit one: ``example.com``, or ``*.example.com`` for it and
    everything below it. A host in ``named`` is allowed whatever it is.
    """

    patterns: tuple[str, ...] | None = None  # None: any public host
    named: tuple[AllowedHost, ...] = ()
    ports: frozenset[int] = frozenset({443})
    setting: str | None = None  # what the operator changes to allow a host

    def names(self, url: httpx2.URL) -> bool:
        """Whether the operator named the host of this URL."""
        plain = url.scheme == "http"
        return any(
            one.host == url.host and one.port == port_of(url) and (one.plain or not plain)
            for one in self.named
        )


def port_of(url: httpx2.URL) -> int:
    """Return the port that a URL leads to."""
    return url.port if url.port is not None else {"http": 80}.get(url.scheme, 443)


def public(ip: str) -> bool:
    """Whether an IP address belongs to the public internet, in either family and any disguise."""
    address = ip_address(ip.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    special = (
        address.is_multicast
        or address.is_reserved
        or address.is_link_local
        or address.is_unspecified
        or any(address.version == one.version and address in one for one in _NOT_PUBLIC)
    )
    return address.is_global and not special


def normalized(text: str) -> str:
    """Return an address in the one form in which it is vetted, kept and fetched.

    It is read as browsers read it (https://url.spec.whatwg.org): blanks, slashes of either kind,
    and characters of any language may be in it. Its fragment is left out.

    Raises:
        UnsafeAddress: It is no address.
    """
    try:
        url = str(Url(text.strip(BLANKS)))
    except ValueError as error:
        raise UnsafeAddress("the address cannot be read") from error
    return url.partition("#")[0].replace("\\", "%5C")


def parse(text: str, policy: Policy) -> httpx2.URL:
    """Return the URL that a text names, if it may be called.

    Raises:
        UnsafeAddress: It may not, or it is no URL.
    """
    if len(text) > MAX_URL or _UNUSABLE.search(text):
        raise UnsafeAddress("the address is too long or holds characters that no address needs")
    try:
        url = httpx2.URL(text)
        host = url.raw_host.decode("ascii")
        port_of(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise UnsafeAddress("the address cannot be read") from error
    if url.userinfo or not host:
        raise UnsafeAddress("the address must have a host and no user")
    if policy.names(url):
        return url
    if url.scheme != "https":
        raise UnsafeAddress("the address must begin with https://", host=host)
    if port_of(url) not in policy.ports:
        raise UnsafeAddress("the address has a port that is not allowed", host=host)
    if not _is_name(host):
        raise UnsafeAddress(
            "the address must name its host in full, and not by a number", host=host
        )
    if policy.patterns is not None and not any(matches(host, one) for one in policy.patterns):
        raise UnsafeAddress("the address has a host that is not allowed", host=host)
    return url


def matches(host: str, pattern: str) -> bool:
    """Whether a host is the pattern's, or below it if the pattern begins with ``*.``."""
    base = pattern.removeprefix("*.")
    return host == base or (base != pattern and host.endswith(f".{base}"))


def _is_name(host: str) -> bool:
    labels = host.split(".")
    if len(host) > 253 or len(labels) < 2 or _NUMBER.fullmatch(labels[-1]):
        return False
    return all(_LABEL.fullmatch(label) and label != "xn--" for label in labels)


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system for every address of a host."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends requests to vetted addresses only.

    Certificates are checked against the name, and the Host header keeps it: only the address
    that is dialled is ours. Connections are not kept, so none is shared between two names.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        resolve: Resolve = resolve,
        inner: httpx2.AsyncBaseTransport | None = None,
        tls: ssl.SSLContext | None = None,
        patience: float = LOOKUP_SECONDS,
    ) -> None:
        self._policy = policy
        self._patience = patience
        self._resolve = resolve
        self._inner = inner or httpx2.AsyncHTTPTransport(
            verify=tls or True,
            trust_env=False,
            limits=httpx2.Limits(max_connections=256, max_keepalive_connections=0),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Check, look up, and send to the first address that takes a connection.

        Raises:
            UnsafeAddress: The policy or one of the host's addresses forbids it.
        """
        url = parse(str(request.url), self._policy)
        failure: Exception = httpx2.ConnectError("the host has no address")
        for ip in await self._vetted(url):
            request.url = url.copy_with(host=ip)
            request.extensions["sni_hostname"] = url.raw_host.decode("ascii")
            try:
                return await self._inner.handle_async_request(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def aclose(self) -> None:
        """Close what is open."""
        await self._inner.aclose()

    async def _vetted(self, url: httpx2.URL) -> Sequence[str]:
        try:
            async with asyncio.timeout(self._patience):
                found = await self._resolve(url.raw_host.decode("ascii"), port_of(url))
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("the host's address took too long to find") from error
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError("the host's address cannot be found") from error
        if not self._policy.names(url) and not all(map(public, found)):
            host = url.raw_host.decode("ascii")
            raise UnsafeAddress("the host has an address that is not public", host=host)
        return found


def open_api(
    base_url: str,
    *,
    timeout: httpx2.Timeout,
    limits: httpx2.Limits,
    headers: Mapping[str, str],
    tls: ssl.SSLContext | None = None,
    proxy: str | None = None,
) -> httpx2.AsyncClient:
    """Return a client of an API at an address that the operator chose.

    It calls nothing else: no redirect is followed, and no proxy used but `proxy`, through which
    https is tunnelled with CONNECT.
    """
    return httpx2.AsyncClient(
        base_url=base_url,
        headers=headers,
        timeout=timeout,
        limits=limits,
        proxy=None if proxy is None else httpx2.Proxy(proxy),
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # takes none
        verify=tls or True,
    )


def proxy_address(value: str) -> str:
    """Return the address of a proxy, as `open_api` takes it.

    Raises:
        ValueError: It is none.
    """
    try:
        url = httpx2.URL(value)
        usable = url.scheme in {"http", "https"} and bool(url.host) and port_of(url) > 0
    except (httpx2.InvalidURL, ValueError):
        usable = False
    if not usable:
        raise ValueError("must be an address such as http://user:password@proxy.example.com:3128")
    return value


def open_client(
    policy: Policy, *, timeout: httpx2.Timeout, tls: ssl.SSLContext | None = None
) -> httpx2.AsyncClient:
    """Return a client that calls what the policy allows, and follows no redirect by itself."""
    return httpx2.AsyncClient(
        transport=GuardedTransport(policy, tls=tls),
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # takes none
    )


@asynccontextmanager
async def open_stream(
    client: httpx2.AsyncClient, text: str, policy: Policy
) -> AsyncGenerator[httpx2.Response]:
    """GET an address and give the answer with its body unread, redirects followed.

    The body comes as it is: compression is not asked for.

    Raises:
        UnsafeAddress: The address, or one that it leads to, may not be called.
    """
    for _ in range(MAX_HOPS + 1):
        url = parse(text, policy)
        async with client.stream("GET", url, headers={"accept-encoding": "identity"}) as response:
            if response.status_code not in REDIRECTS:
                yield response
                return
            location = response.headers.get("location", "").strip(BLANKS)
            text = normalized(urljoin(text, location))
    raise UnsafeAddress(f"the address leads on more than {MAX_HOPS} times")
