"""The headers of a request by their names, gathered once for all that look for one that is mostly missing."""

from collections.abc import Mapping
from typing import Final

from starlette.types import Scope

GATHERED: Final = "fleek.headers"


def headers_of(scope: Scope) -> Mapping[bytes, bytes]:
    """Return the headers of a request by name, in lower case; of several with one name, the last."""
    known: Mapping[bytes, bytes] | None = scope.get(GATHERED)
    if known is None:
        known = scope[GATHERED] = dict(scope["headers"])
    return known
