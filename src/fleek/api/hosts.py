"""Checks the Host header, against DNS rebinding.

An attacker's page can make its own host name resolve to the address of this service; the browser then
allows the page to read our responses. Such a request has a Host that does not belong to the service.

Source: RFC 9112, section 3.2.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.types import Scope

from fleek.domain.errors import UnknownHost
from fleek.settings import LOOPBACK, Settings

HOST: Final = re.compile(
    rb"(?P<name>[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{0,5})?",
    re.IGNORECASE,
)
UNKNOWN: Final = (
    "the Host header does not belong to this service; if it should, add it to ALLOWED_HOSTS or set "
    "PUBLIC_URL"
)


class Hosts:
    """The host names of the service."""

    def __init__(self, settings: Settings) -> None:
        bases = (settings.public_base, settings.media_base)
        listed = {name.lower().strip("[]") for name in settings.allowed_hosts}
        self._suffixes = tuple(name[1:] for name in listed if name.startswith("*."))
        self._names = LOOPBACK | listed | {urlsplit(base).hostname or "" for base in bases}

    def check(self, scope: Scope) -> str:
        """Return the Host header of a request, in lower case.

        Raises:
            UnknownHost: It has none, several, or an unknown one.
        """
        given = [value for name, value in scope["headers"] if name == b"host"]
        found = HOST.fullmatch(given[0]) if len(given) == 1 else None
        if found is None:
            raise UnknownHost(
                "a request needs exactly one valid Host header, such as api.example.com"
            )
        name = found["name"].decode().lower()
        if not self._is_ours(name.strip("[]"), scope):
            raise UnknownHost(UNKNOWN)
        return str(given[0].decode().lower())

    def _is_ours(self, name: str, scope: Scope) -> bool:
        if name in self._names or name.endswith(self._suffixes):
            return True
        own = scope.get("server")  # the socket's address, not its name
        return own is not None and _address(name) == _address(own[0])


def _address(name: str) -> IPv4Address | IPv6Address | str:
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return name
    return getattr(address, "ipv4_mapped", None) or address
