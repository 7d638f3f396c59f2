"""The policy for addresses of other hosts: protection against server-side request forgery (SSRF).

An address is parsed once and must satisfy the policy. Its host is resolved once per connection, all
of its IP addresses must be public, and the connection uses one of these. So a later change of the
name server's answer (DNS rebinding) has no effect.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self

from pydantic_core import Url
from yarl import URL

from fleek.domain.text import BLANKS
from fleek.domain.values import dataclass

MAX_URL: Final = 2048  # characters
LOOKUP_SECONDS: Final = 3.0

_UNUSABLE: Final = re.compile(r"[^!-~]|[\\#]")
_AUTHORITY: Final = re.compile(r"[A-Za-z]+://[^/?]*")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(
    r"[0-9]+|0x[0-9a-f]*"
)  # the end of spellings of IPv4, but not of names

_NOT_PUBLIC: Final = tuple(
    ip_network(network)
    for network in (
        "64:ff9b::/96",  # these five map to any IPv4 address
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "::/96",
        "fec0::/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "100.64.0.0/10",
        "168.63.129.16/32",  # services of a cloud, at a public-looking address
        "5f00::/16",
        "100::/64",
    )
)

_NEVER: Final = tuple(
    ip_network(network)
    for network in (
        "169.254.169.254/32",  # these return a machine's credentials to any client
        "169.254.170.0/24",
        "168.63.129.16/32",
        "100.100.100.200/32",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
    )
)

Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns all IP addresses of a host, or raises OSError."""


class UnsafeAddress(Exception):
    """The address may not be called. The message never contains it; `host` is its host, if known."""

    def __init__(self, message: str, *, host: str | None = None) -> None:
        super().__init__(message)
        self.host = host


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """A host from the operator's settings, which may be private."""

    host: str  # lower case
    port: int
    plain: bool = False  # whether http is allowed

    @classmethod
    def of(cls, address: str) -> Self:
        """Return the host of an address from the settings."""
        url = URL(address)
        host = (url.raw_host or "").lower()
        return cls(host, url.port or 443, plain=url.scheme == "http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The addresses that may be called: https at public IP addresses, on allowed ports.

    With ``patterns``, the host must match one: ``example.com``, or ``*.example.com`` for it and
    its subdomains. A host in ``named`` is always allowed.

    IP addresses in ``networks`` are allowed, too, on any port, also as literals or by names without
    a dot; with http only if ``plain`` is set.
    """

    patterns: tuple[str, ...] | None = None  # None: any public host
    named: tuple[AllowedHost, ...] = ()
    ports: frozenset[int] = frozenset({443})
    setting: str | None = None  # the setting that allows hosts, for messages
    networks: tuple[Network, ...] = ()
    plain: bool = False  # whether http is allowed to addresses in `networks`

    def names(self, host: str, port: int) -> bool:
        """Whether a host and port are in ``named``."""
        return any((allowed.host, allowed.port) == (host, port) for allowed in self.named)

    def names_url(self, url: URL) -> bool:
        """Whether a URL's host is in ``named``, and its scheme is allowed."""
        secure = url.scheme == "https"
        return any(
            allowed.host == url.raw_host and allowed.port == url.port and (secure or allowed.plain)
            for allowed in self.named
            if secure or url.scheme == "http"
        )

    def admits(self, ip: str, port: int) -> bool:
        """Whether an IP address is allowed for a host that is not in ``named``."""
        return (port in self.ports and public(ip)) or _in(ip, self.networks)

    def check_form(self, url: URL, host: str) -> None:
        """Check a URL before its host is resolved.

        Raises:
            UnsafeAddress: It may not be called at any IP address.
        """
        plain = self.plain and bool(self.networks) and url.port not in self.ports
        if url.scheme != "https" and not (url.scheme == "http" and plain):
            raise UnsafeAddress("the address must begin with https://", host=host)
        if url.port not in self.ports and not (self.networks and url.port):
            raise UnsafeAddress("the address has a port that is not allowed", host=host)
        if not _is_name(host) and not (self.networks and self._is_inside(host)):
            raise UnsafeAddress(
                "the address must have a host name with a domain, not an IP address", host=host
            )
        if self.patterns is not None and not any(
            matches(host, pattern) for pattern in self.patterns
        ):
            raise UnsafeAddress("the address has a host that is not allowed", host=host)

    def _is_inside(self, host: str) -> bool:
        """Whether a literal or a name without a domain may be in the networks."""
        try:
            return _in(host, self.networks)
        except ValueError:
            return _LABEL.fullmatch(host) is not None and _NUMBER.fullmatch(host) is None


def _in(ip: str, networks: Sequence[Network]) -> bool:
    """Whether an IP address is in the given networks; metadata services never count."""
    address = _plain(ip)
    return _within(address, networks) and not _within(address, _NEVER)


def _within(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _plain(ip: str) -> IPv4Address | IPv6Address:
    """Return an IP address without its zone; an IPv4-mapped one as IPv4."""
    address = ip_address(ip.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def public(ip: str) -> bool:
    """Whether an IP address is public, for both families and all embedded forms."""
    address = _plain(ip)
    special = (
        address.is_multicast
        or address.is_reserved
        or address.is_link_local
        or address.is_unspecified
        or _within(address, _NOT_PUBLIC)
    )
    return address.is_global and not special


def normalized(text: str) -> str:
    """Return an address in the normal form in which it is checked, stored and fetched.

    It is parsed as in browsers (https://url.spec.whatwg.org): it may contain blanks, both kinds of
    slashes, and characters of any language. Its fragment is removed.

    Raises:
        UnsafeAddress: It is not an address.
    """
    try:
        url = str(Url(text.strip(BLANKS)))
    except ValueError as error:
        raise UnsafeAddress("the address is not valid") from error
    return url.partition("#")[0].replace("\\", "%5C")


def parse(text: str, policy: Policy) -> URL:
    """Return the URL of an address that may be called, with unchanged quoting.

    Raises:
        UnsafeAddress: It may not be called, or is not a URL.
    """
    if len(text) > MAX_URL or _UNUSABLE.search(text):
        raise UnsafeAddress("the address is too long or contains characters that are not allowed")
    try:
        url = URL(_AUTHORITY.sub(lambda match: match[0].lower(), text), encoded=True)
        host = url.raw_host
    except ValueError as error:
        raise UnsafeAddress("the address is not valid") from error
    if "@" in url.raw_authority or not host:
        raise UnsafeAddress("the address must have a host and no user")
    if policy.names_url(url):
        return url
    policy.check_form(url, host)
    return url


def matches(host: str, pattern: str) -> bool:
    """Whether a host matches a pattern; ``*.`` matches the domain and its subdomains."""
    base = pattern.removeprefix("*.")
    return host == base or (base != pattern and host.endswith(f".{base}"))


def _is_name(host: str) -> bool:
    labels = host.split(".")
    if len(host) > 253 or len(labels) < 2 or _NUMBER.fullmatch(labels[-1]):
        return False
    return all(_LABEL.fullmatch(label) and label != "xn--" for label in labels)


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return all IP addresses of a host, resolved by the operating system."""
    loop = asyncio.get_running_loop()
    entries = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def proxy_address(value: str) -> str:
    """Return a proxy's address in the form that `fleek.outbound.client` accepts.

    Raises:
        ValueError: It is not an address of a proxy.
    """
    try:
        url = URL(value)
        usable = url.scheme in {"http", "https"} and bool(url.host) and bool(url.port)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an address such as http://user:password@proxy.example.com:3128")
    return value
