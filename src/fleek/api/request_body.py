"""Bodies of requests: read within their limits, and as strict JSON."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from fastapi.requests import Request

from fleek import strict
from fleek.api.admission import RELEASE_BODY
from fleek.api.headers import headers_of
from fleek.domain.errors import TooLarge, Unreadable, Unsupported
from fleek.domain.text import BLOCK, ChunkBuffer

KINDS: Final = frozenset({b"content-type", b"content-encoding"})
PLAIN_JSON: Final = [(b"content-type", b"application/json")]
UTF8: Final = frozenset({"", "charset=utf-8", 'charset="utf-8"'})


async def read_json(request: Request) -> Request:
    """Return the request, which holds its body as it was sent and as strict JSON.

    Raises:
        Unsupported: Its Content-Type is another.
        TooLarge: It has more than `MAX_BODY_BYTES`.
        Unreadable: It is no JSON.
    """
    _check_kind(request)
    data = await read_body(request, request.app.state.runtime.settings.max_body_bytes)
    request._body, request._json = data, strict.loads(data)  # noqa: SLF001 - where it looks for them
    return request


def _check_kind(request: Request) -> None:
    if [each for each in request.scope["headers"] if each[0] in KINDS] == PLAIN_JSON:
        return  # as in most requests
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
    length = headers_of(request.scope).get(b"content-length", b"0")
    if not length.isdigit() or int(length[:20]) > limit:
        raise TooLarge(f"the body must have at most {limit} bytes")
    first, more = await _part(request)
    if len(first) > limit:
        raise TooLarge(f"the body must have at most {limit} bytes")
    if not more:
        return first  # as most are: it has come with the head
    body = ChunkBuffer()
    body.add(first)
    while more:
        part, more = await _part(request)
        body.add(part)
        if body.size > limit:
            raise TooLarge(f"the body must have at most {limit} bytes")
    return body.whole() if body.size <= BLOCK else await asyncio.to_thread(body.whole)


async def _part(request: Request) -> tuple[bytes, bool]:
    """Return the next part of the body, and whether more is to come.

    Raises:
        Unreadable: The caller has gone.
    """
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise Unreadable("the body ended early")
    return message.get("body", b""), message.get("more_body", False)


async def body_parts(request: Request) -> AsyncIterator[bytes]:
    """Give the parts of the body; each counts as held in memory only until the next one."""
    release: Callable[[], None] = request.scope.get(RELEASE_BODY, lambda: None)
    more = True
    while more:
        part, more = await _part(request)
        if part:
            yield part
        release()
