"""Checks the Host and Origin headers, against DNS rebinding and cross-site requests.

DNS rebinding: an attacker's page makes its own host name resolve to the address of this service; the
browser then allows the page to read our responses. Such a request has a Host that does not belong to
the service.

Cross-site requests: a browser sends forms of any site to any other, and names the origin in ``Origin``
and ``Sec-Fetch-Site``; other clients send neither. Requests with an API key are allowed: a page of
another site cannot add one without our permission.

Sources: RFC 9112, section 3.2; RFC 6454; Fetch Metadata Request Headers, W3C.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from fastapi.requests import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from fleek.api.access import SCHEMES
from fleek.api.errors import answer
from fleek.api.headers import headers_of
from fleek.domain.errors import ForeignOrigin, RequestError, UnknownHost
from fleek.settings import LOOPBACK, Settings

HOST: Final = re.compile(
    rb"(?P<name>[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{0,5})?",
    re.IGNORECASE,
)
REMEMBERED: Final = 256  # hosts of ours, each perhaps with several ports
INVALID: Final = "a request needs exactly one valid Host header, such as api.example.com"
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
        self._known = lru_cache(REMEMBERED)(self._look_up)

    def check(self, scope: Scope) -> str:
        """Return the Host header of a request, in lower case.

        Raises:
            UnknownHost: It has none, several, or an unknown one.
        """
        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) != 1:
            raise UnknownHost(INVALID)
        own = scope.get("server")  # the socket's address, not its name
        return self._known(given[0], None if own is None else own[0])

    def _look_up(self, given: bytes, own: str | None) -> str:
        found = HOST.fullmatch(given)
        if found is None:
            raise UnknownHost(INVALID)
        name = found["name"].decode().lower()
        if not self._is_ours(name.strip("[]"), own):
            raise UnknownHost(UNKNOWN)
        return given.decode().lower()

    def _is_ours(self, name: str, own: str | None) -> bool:
        if name in self._names or name.endswith(self._suffixes):
            return True
        return own is not None and _address(name) == _address(own)


def _address(name: str) -> IPv4Address | IPv6Address | str:
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return name
    return getattr(address, "ipv4_mapped", None) or address


SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
OF_PAGES: Final = frozenset({b"origin", b"sec-fetch-site"})
OURS: Final = frozenset({"same-origin", "none"})  # none: entered by the user
PORTS: Final = {"http": ":80", "https": ":443"}


class Origins:
    """The origins whose pages may send unsafe requests."""

    def __init__(self, settings: Settings) -> None:
        listed = (*settings.cors_origins, settings.public_base)
        self._any = "*" in settings.cors_origins
        self._allowed = {_origin(address) for address in listed} - {None}

    def check(self, scope: Scope, host: str) -> None:
        """Allow a request unless a page of another site sent it.

        Raises:
            ForeignOrigin: It is a cross-site request, or has an opaque origin.
        """
        if scope["method"] in SAFE or self._any:
            return
        if OF_PAGES.isdisjoint(headers_of(scope)):
            return  # it is not from a browser
        headers = Headers(scope=scope)
        if _has_key(headers):
            return
        origins = headers.getlist("origin")
        site = headers.get("sec-fetch-site", "none")
        if all(self._is_allowed(origin, host) for origin in origins) and (origins or site in OURS):
            return
        raise ForeignOrigin(
            "pages of other sites may not change anything; to allow a site, add it to CORS_ORIGINS"
        )

    def _is_allowed(self, origin: str, host: str) -> bool:
        named = _origin(origin)
        own = {_origin(f"{scheme}://{host}") for scheme in PORTS}
        return named is not None and (named in own or named in self._allowed)


def _origin(address: str) -> str | None:
    """Return scheme and host of an address as browsers write them; None: it has neither."""
    scheme, _, rest = address.lower().partition("://")
    name = rest.partition("/")[0]
    if scheme not in PORTS or not name:
        return None
    return f"{scheme}://{name.removesuffix(PORTS[scheme])}"


def _has_key(headers: Headers) -> bool:
    scheme = headers.get("authorization", "").lower().partition(" ")[0]
    return scheme in SCHEMES or "x-api-key" in headers


class HostOriginMiddleware:
    """Refuses unknown hosts and cross-site requests."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._hosts = Hosts(settings)
        self._origins = Origins(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            try:
                self._origins.check(scope, self._hosts.check(scope))
            except RequestError as error:
                await answer(Request(scope), error)(scope, receive, send)
                return
        await self._app(scope, receive, send)
