"""Routes that read requests strictly: query, headers and JSON are checked before use.

Whatever a route does not know is refused, never ignored: an ignored parameter hides a typing
error, and an ignored ``Idempotency-Key`` pays twice.
"""

import asyncio
import re
from collections.abc import Callable, Container, Coroutine, Iterable
from copy import copy
from typing import Any, Final

from fastapi import params
from fastapi.dependencies.utils import get_flat_params
from fastapi.requests import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute, APIRouter
from starlette.routing import BaseRoute

from fleek import strict
from fleek.api.errors import problems
from fleek.domain.errors import (
    ErrorLocation,
    FieldError,
    InvalidInput,
    TooLarge,
    Unreadable,
    Unsupported,
)
from fleek.domain.text import BLOCK, ChunkBuffer

SAFE: Final = frozenset({"GET", "HEAD"})
WAIT: Final = re.compile(r"\s*wait\s*(?:[=;]|$)")
NO_IDEMPOTENCY: Final = (
    "Idempotency-Key is not supported yet: send the request without it, and repeat it only if you "
    "know that it was not accepted"
)
NO_WAIT: Final = (
    "Prefer: wait is not supported yet: send the request without it, and read the job until its "
    "status is final"
)
UTF8: Final = frozenset({"", "charset=utf-8", 'charset="utf-8"'})


class JsonRequest(Request):
    """A request whose JSON body has been read and checked."""

    def __init__(self, request: Request, data: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._data = data
        self._value = value

    async def body(self) -> bytes:
        """Return the body as it was sent."""
        return self._data

    async def json(self) -> Any:
        """Return the value that the body holds."""
        return self._value


class StrictRoute(APIRoute):
    """A route that refuses what it does not know, and takes its body only as strict JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with the checks before it."""
        handle = super().get_route_handler()
        fields = get_flat_params(self.dependant)
        known = {field.alias for field in fields if isinstance(field.field_info, params.Query)}
        has_body = self.body_field is not None

        async def check_and_handle(request: Request) -> Response:
            _check_query(request, known)
            _check_headers(request)
            return await handle(await _read_json(request) if has_body else request)

        return check_and_handle


def router(prefix: str = "", *, tag: str) -> APIRouter:
    """Return an empty router of strict routes, all below `prefix`."""
    return APIRouter(
        prefix=prefix, tags=[tag], route_class=StrictRoute, responses=problems(InvalidInput)
    )


def answering_head(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """Return the routes with a HEAD beside each GET, behind all others and not documented."""
    ours = list(routes)
    heads: list[BaseRoute] = []
    for route in ours:
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            head = copy(route)
            head.methods, head.include_in_schema = {"HEAD"}, False
            heads.append(head)
    return ours + heads


def _check_query(request: Request, known: Container[str]) -> None:
    if not request.scope["query_string"]:
        return
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            raise _refusal("query", name, "unknown", "there is no such query parameter")
        if name in seen:  # readers would disagree about which one counts
            raise _refusal("query", name, "duplicate", "each query parameter may be given once")
        seen.add(name)


def _check_headers(request: Request) -> None:
    if request.method in SAFE:
        return
    if "idempotency-key" in request.headers:
        raise _refusal("header", "Idempotency-Key", "unsupported", NO_IDEMPOTENCY)
    preferences = ",".join(request.headers.getlist("prefer")).lower()
    if any(WAIT.match(preference) for preference in preferences.split(",")):
        raise _refusal("header", "Prefer", "unsupported", NO_WAIT)


def _refusal(location: ErrorLocation, name: str, code: str, detail: str) -> InvalidInput:
    problem = FieldError(f"/{name}", code, detail, location=location)
    return InvalidInput(detail, errors=[problem])


async def _read_json(request: Request) -> JsonRequest:
    _check_kind(request)
    data = await read_body(request, request.app.state.runtime.settings.max_body_bytes)
    return JsonRequest(request, data, strict.loads(data))


def _check_kind(request: Request) -> None:
    kinds = request.headers.getlist("content-type")
    if len(kinds) > 1:
        raise Unsupported("the body must be sent with one Content-Type, not several")
    kind, _, parameter = "".join(kinds).lower().partition(";")
    kind = kind.strip()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise Unsupported("the body must be sent with Content-Type: application/json")
    if parameter.strip() not in UTF8:
        raise Unsupported("the body must be in UTF-8, with no other parameter in its Content-Type")
    encodings = request.headers.getlist("content-encoding")
    if any(encoding.strip().lower() != "identity" for encoding in encodings):
        raise Unsupported("the body must not be compressed")


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body, counted while it comes in; its announced length is not believed."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > limit:
        raise TooLarge(f"the body must have at most {limit} bytes")
    body = ChunkBuffer()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Unreadable("the body ended early")
        body.add(message.get("body", b""))
        if body.size > limit:
            raise TooLarge(f"the body must have at most {limit} bytes")
        more = message.get("more_body", False)
    return body.whole() if body.size <= BLOCK else await asyncio.to_thread(body.whole)
