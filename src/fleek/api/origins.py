"""Checks Origin and Sec-Fetch-Site, against cross-site requests.

A browser sends forms of any site to any other, and names the origin in ``Origin`` and
``Sec-Fetch-Site``; other clients send neither. Requests with an API key are allowed: a page of another
site cannot add one without our permission.

Sources: RFC 6454; Fetch Metadata Request Headers, W3C.
"""

from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from fleek.domain.errors import ForeignOrigin
from fleek.settings import Settings

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
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
    bearer = headers.get("authorization", "").lower().startswith("bearer ")
    return bearer or "x-api-key" in headers
