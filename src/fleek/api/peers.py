"""Addresses of peers: the clients and proxies that connect to this process."""

from ipaddress import ip_address, ip_network
from typing import Final

ANY: Final = "*"


class Peers:
    """Addresses and networks, as in ``FORWARDED_ALLOW_IPS``: ``10.0.0.0/8,::1``, or ``*``."""

    def __init__(self, listed: tuple[str, ...]) -> None:
        self._all = ANY in listed
        self._networks = [ip_network(entry, strict=False) for entry in listed if entry != ANY]

    def __contains__(self, peer: str) -> bool:
        if self._all:
            return True
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:  # a socket without an IP address
            return True
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)
