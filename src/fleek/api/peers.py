"""Addresses of peers: the clients and proxies that connect to this process."""

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

from starlette.types import Scope

from fleek.api.headers import headers_of

ANY: Final = "*"
FORWARDED: Final = b"x-forwarded-for"
MAX_HOPS: Final = 20  # proxies between a caller and this process
REMEMBERED: Final = (
    4096  # peers: to read an address again for each request costs 25 µs of a submission
)


class Peers:
    """Addresses and networks, as in ``FORWARDED_ALLOW_IPS``: ``10.0.0.0/8,::1``, or ``*``."""

    def __init__(self, listed: tuple[str, ...]) -> None:
        self._all = ANY in listed
        self._networks = [ip_network(entry, strict=False) for entry in listed if entry != ANY]
        self._is_listed = lru_cache(REMEMBERED)(self._look_up)

    def __contains__(self, peer: str) -> bool:
        return self._is_listed(peer)

    def _look_up(self, peer: str) -> bool:
        if self._all:
            return True
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:  # a socket without an IP address
            return True
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)


def caller_address(scope: Scope, proxies: Peers) -> str | None:
    """Return the address that a request came from, for logs; None: it has none.

    ``X-Forwarded-For`` is believed as far as proxies have written it: the last address that is not
    one of theirs.
    """
    client = scope.get("client")
    caller: str | None = client and client[0]
    if caller is None or caller not in proxies:
        return caller
    if FORWARDED not in headers_of(scope):
        return caller
    written = [value for name, value in scope["headers"] if name == FORWARDED]
    for entry in reversed(b",".join(written).rsplit(b",", MAX_HOPS)[-MAX_HOPS:]):
        address = _address(entry.decode("latin-1"))
        if address is None:
            break
        caller = address
        if caller not in proxies:
            break
    return caller


def _address(entry: str) -> str | None:
    """Return the address of an entry, without its port; None: it is no address."""
    entry = entry.strip()
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        return None if "%" in entry else str(ip_address(entry))
    except ValueError:
        return None
