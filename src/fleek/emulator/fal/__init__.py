"""fal's queue: requests that are submitted, polled, cancelled, and end with a signed callback.

Sources: the packages `fal-client` 1.0.3 and `@fal-ai/client` 1.10.1, and
https://docs.fal.ai/model-apis/model-endpoints.
"""

from typing import Final

from starlette.types import Scope

from fleek.emulator.dialect import Dialect
from fleek.emulator.fal import queue
from fleek.emulator.fal.representation import JWKS, NAME, PREFIX, error, notify, present
from fleek.emulator.fal.signatures import sign

__all__ = ["DIALECT", "JWKS"]


def _is_public(scope: Scope) -> bool:
    return str(scope["path"]) == f"{PREFIX}{JWKS}"


DIALECT: Final = Dialect(
    name=NAME,
    prefix=PREFIX,
    routes=queue.routes,
    creates=lambda _: True,
    error=error,
    present=present,
    is_open=_is_public,
    schemes=frozenset({"key"}),
    notify=notify,
    sign=sign,
)
