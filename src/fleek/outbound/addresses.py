"""Which addresses may be called, whoever names them.

An address is read once, by one parser, and must pass the policy. Its host is resolved once per
connection, every address that it has must be public, and the connection goes to one of those, so
that a second answer of the name server (DNS rebinding) changes nothing.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self

from pydantic_core import Url
from yarl import URL

MAX_URL: Final = 2048  # characters
LOOKUP_SECONDS: Final = 3.0
BLANKS: Final = "".join(map(chr, range(0x21)))  # around an address they do not count

_UNUSABLE: Final = re.compile(r"[^!-~]|[\\#]")
_AUTHORITY: Final = re.compile(r"[A-Za-z]+://[^/?]*")
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

_NEVER: Final = tuple(
    ip_network(network)
    for network in (
        "169.254.169.254/32",  # these give a machine's own credentials to whoever asks
        "169.254.170.0/24",
        "168.63.129.16/32",
        "100.100.100.200/32",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
    )
)

Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host: every IP address that it has, or OSError."""


class UnsafeAddress(Exception):
    """The address may not be called. The message never holds it; `host` is its host, if known."""

    def __init__(self, message: str, *, host: str | None = None) -> None:
        super().__init__(message)
        self.host = host


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """A host from the operator's settings, so it may be private."""

    host: str  # lower case
    port: int
    plain: bool = False  # whether http is allowed

    @classmethod
    def of(cls, address: str) -> Self:
        """Return the host that an address from the settings leads to."""
        url = URL(address)
        host = (url.raw_host or "").lower()
        return cls(host, url.port or 443, plain=url.scheme == "http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which addresses may be called: https at a public address, on a port that is listed.

    With ``patterns``, only hosts that match one: ``example.com``, or ``*.example.com`` for it and
    everything below it. A host in ``named`` is allowed whatever it is.

    Addresses in ``networks`` are allowed too, on any port, and also by their number or by a name
    without a dot; by http only with ``plain``.
    """

    patterns: tuple[str, ...] | None = None  # None: any public host
    named: tuple[AllowedHost, ...] = ()
    ports: frozenset[int] = frozenset({443})
    setting: str | None = None  # what the operator changes to allow a host
    networks: tuple[Network, ...] = ()
    plain: bool = False  # whether http is allowed to addresses in `networks`

    def names(self, host: str, port: int) -> bool:
        """Whether the operator named this host and port."""
        return any((allowed.host, allowed.port) == (host, port) for allowed in self.named)

    def names_url(self, url: URL) -> bool:
        """Whether the operator named the host of this URL, and allows its scheme."""
        secure = url.scheme == "https"
        return any(
            allowed.host == url.raw_host and allowed.port == url.port and (secure or allowed.plain)
            for allowed in self.named
            if secure or url.scheme == "http"
        )

    def admits(self, ip: str, port: int) -> bool:
        """Whether a host that is not named may be called at this address."""
        return (port in self.ports and public(ip)) or _in(ip, self.networks)

    def check_form(self, url: URL, host: str) -> None:
        """Check what can be seen of a URL before its host is resolved.

        Raises:
            UnsafeAddress: It may not be called, wherever its host leads.
        """
        plain = self.plain and bool(self.networks) and url.port not in self.ports
        if url.scheme != "https" and not (url.scheme == "http" and plain):
            raise UnsafeAddress("the address must begin with https://", host=host)
        if url.port not in self.ports and not (self.networks and url.port):
            raise UnsafeAddress("the address has a port that is not allowed", host=host)
        if not _is_name(host) and not (self.networks and self._is_inside(host)):
            raise UnsafeAddress(
                "the address must name its host in full, and not by a number", host=host
            )
        if self.patterns is not None and not any(
            matches(host, pattern) for pattern in self.patterns
        ):
            raise UnsafeAddress("the address has a host that is not allowed", host=host)

    def _is_inside(self, host: str) -> bool:
        """Whether a host that is not named in full may be in the networks."""
        try:
            return _in(host, self.networks)
        except ValueError:
            return _LABEL.fullmatch(host) is not None and _NUMBER.fullmatch(host) is None


def _in(ip: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in networks that the operator allows; metadata services never are."""
    address = _plain(ip)
    return _within(address, networks) and not _within(address, _NEVER)


def _within(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _plain(ip: str) -> IPv4Address | IPv6Address:
    """Return an address without its zone; one of IPv4 in the form of IPv6 is one of IPv4."""
    address = ip_address(ip.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def public(ip: str) -> bool:
    """Whether an IP address belongs to the public internet, in either family and any disguise."""
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


def parse(text: str, policy: Policy) -> URL:
    """Return the URL that a text names, if it may be called; nothing in it is quoted anew.

    Raises:
        UnsafeAddress: It may not, or it is no URL.
    """
    if len(text) > MAX_URL or _UNUSABLE.search(text):
        raise UnsafeAddress("the address is too long or holds characters that no address needs")
    try:
        url = URL(_AUTHORITY.sub(lambda match: match[0].lower(), text), encoded=True)
        host = url.raw_host
    except ValueError as error:
        raise UnsafeAddress("the address cannot be read") from error
    if "@" in url.raw_authority or not host:
        raise UnsafeAddress("the address must have a host and no user")
    if policy.names_url(url):
        return url
    policy.check_form(url, host)
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
    """Ask the operating system for every address of a host."""
    loop = asyncio.get_running_loop()
    entries = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def proxy_address(value: str) -> str:
    """Return the address of a proxy, as `fleek.outbound.client` takes it.

    Raises:
        ValueError: It is none.
    """
    try:
        url = URL(value)
        usable = url.scheme in {"http", "https"} and bool(url.host) and bool(url.port)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an address such as http://user:password@proxy.example.com:3128")
    return value
