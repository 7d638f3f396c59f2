"""fal's queue: requests that are submitted, polled, cancelled, and end with a signed callback.

Sources: the packages `fal-client` 1.0.3 and `@fal-ai/client` 1.10.1, and
https://docs.fal.ai/model-apis/model-endpoints.
"""

from typing import Final

from starlette.routing import Route
from starlette.types import Scope

from fleek.emulator.dialect import Dialect
from fleek.emulator.fal import queue, storage
from fleek.emulator.fal.representation import JWKS, NAME, PREFIX, error, notify, present
from fleek.emulator.fal.signatures import sign

__all__ = ["DIALECT", "JWKS"]


def _is_public(scope: Scope) -> bool:
    path = str(scope["path"])
    return path == f"{PREFIX}{JWKS}" or storage.is_open(path)


def _creates(path: str) -> bool:
    return not path.startswith((f"{PREFIX}/storage/", f"{PREFIX}/files/"))


def _routes() -> list[Route]:
    return [*storage.routes(), *queue.routes()]  # the latter take any other path


DIALECT: Final = Dialect(
    name=NAME,
    prefix=PREFIX,
    routes=_routes,
    creates=_creates,
    error=error,
    present=present,
    is_open=_is_public,
    schemes=frozenset({"key"}),
    notify=notify,
    sign=sign,
)
