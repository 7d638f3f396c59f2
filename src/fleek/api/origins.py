"""Which web pages may change something: those of the service, and those in ``CORS_ORIGINS``.

A browser sends forms of any site to any other. It says from where, in ``Origin`` and
``Sec-Fetch-Site``; programs that are no browsers send neither. A caller who shows a key is not
led by a page: no page can add a key to a request without our consent.

Sources: RFC 6454; Fetch Metadata Request Headers, W3C.
"""

from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from fleek.domain.errors import ForeignOrigin
from fleek.settings import Settings

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
OURS: Final = frozenset({"same-origin", "none"})  # none: the user's own doing
PORTS: Final = {"http": ":80", "https": ":443"}


class Origins:
    """The sites whose pages may change something."""

    def __init__(self, settings: Settings) -> None:
        listed = (*settings.cors_origins, settings.public_base)
        self._any = "*" in settings.cors_origins
        self._allowed = {_origin(address) for address in listed} - {None}

    def check(self, scope: Scope, host: str) -> None:
        """Let a request pass unless a page of another site made a browser send it.

        Raises:
            ForeignOrigin: One did, or a page that does not say whose it is.
        """
        if scope["method"] in SAFE or self._any:
            return
        headers = Headers(scope=scope)
        if _shows_key(headers):
            return
        origins = headers.getlist("origin")
        site = headers.get("sec-fetch-site", "none")
        if all(self._is_allowed(one, host) for one in origins) and (origins or site in OURS):
            return
        raise ForeignOrigin(
            "a page of another site may change nothing here; if it may, add it to CORS_ORIGINS"
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


def _shows_key(headers: Headers) -> bool:
    bearer = headers.get("authorization", "").lower().startswith("bearer ")
    return bearer or "x-api-key" in headers
