"""Responses: JSON, bodies of errors, headers and socket failures."""

import asyncio
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, Literal

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleek.emulator.plan import Faults, Marker

FORMS: Final[Mapping[str, Callable[[str], Any]]] = {
    "list": lambda text: {"detail": [{"loc": ["body", "input"], "msg": text, "type": "value"}]},
    "error": lambda text: {"error": text},
    "message": lambda text: {"message": text},
    "nested": lambda text: {"error": {"code": "E1", "message": text}},
    "errors": lambda text: {"errors": [{"title": text}]},
    "array": lambda text: [text],
}
"""Forms of error bodies, besides `problem` (the dialect's own), `html` and `text`."""

ERRORS: Final[Mapping[str, Callable[[str], Any]]] = {
    "object": lambda text: {"code": "E9999", "message": text},
    "detail": lambda text: {"detail": text},
    "list": lambda text: [text, "and more"],
    "objects": lambda text: [{"loc": ["input"], "msg": text}],
    "number": lambda _: 500,
    "true": lambda _: True,
    "empty": lambda _: "",
    "null": lambda _: None,
}
"""Forms of a failed prediction's `error`."""

ODD: Final[Mapping[str, Any]] = {
    "list": [],
    "null": None,
    "number": 7,
    "text": "not now",
    "empty": {},
    "error": {"error": "upstream request timed out"},
    "nulls": {"id": None, "status": None, "results": None},
    "rows": {"results": [None, 7, "x", [], {}], "next": 7},
}
"""JSON that is neither a prediction nor a list of predictions."""


def encode(body: Any) -> bytes:
    """Encode JSON deterministically."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


TRANSPORT: Final = "emulator.transport"
"""The scope extension in which `server.Protocol` stores the connection."""

ERROR_FORM: Final = "emulator.error_form"
"""The key of the scope that holds the form of errors; without it, `plain_error` is used."""

NOT_FOUND: Final = "The requested resource could not be found."
HTML: Final = b"<!doctype html><title>Error</title><h1>Something went wrong</h1>"

Ending = Literal["close", "reset", "hold"]


@dataclass(slots=True)
class RequestEntry:
    """The ledger's row of a request."""

    faults: list[str] = field(default_factory=list)
    status: int | None = None  # None: not sent
    sent: int = 0  # bytes of the body, or of everything when the answer was raw
    auth_ok: bool = True
    token: str | None = None  # its fingerprint
    download: dict[str, Any] | None = None  # the requested file, if any
    subject: str = ""  # the subject of the markers
    markers: Mapping[str, Marker] = field(default_factory=dict)
    model: str = ""


def entry_of(scope: Scope) -> RequestEntry:
    """Return the request's row in the ledger."""
    entry: RequestEntry = scope["emulator.entry"]
    return entry


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response."""
    return Response(encode(body), status, headers, media_type="application/json")


@dataclass(frozen=True, slots=True)
class Problem:
    """An error response in the form of the dialect whose path was requested."""

    status: int
    text: str
    title: str | None = None
    headers: Mapping[str, str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        form = scope.get(ERROR_FORM, plain_error)
        response: Response = form(self.status, self.text, self.title, self.headers)
        await response(scope, receive, send)


def plain_error(
    status: int, text: str, title: str | None, headers: Mapping[str, str] | None
) -> Response:
    """Return an error response as problem+json has it, which is Replicate's form, too."""
    body = {"title": title or HTTPStatus(status).phrase, "detail": text, "status": status}
    return answer(body, status, headers)


def problem(
    status: int, detail: str, *, title: str | None = None, headers: Mapping[str, str] | None = None
) -> ASGIApp:
    """Return an error response in the form of the dialect."""
    return Problem(status, detail, title, headers)


def missing() -> ASGIApp:
    """Return a 404 response."""
    return Problem(404, NOT_FOUND)


def refusal(form: str, status: int, text: str, *, title: str | None = None) -> ASGIApp:
    """Return an error response in a form of `FORMS`, as `html` or `text`, or in the dialect's form."""
    if form in FORMS:
        return answer(FORMS[form](text), status)
    if form == "html":
        return html(status)
    if form == "text":
        return Response(text, status, media_type="text/plain")
    return problem(status, text, title=title)


def throttled(kind: str, now: float) -> ASGIApp:
    """Return a 429 response; `kind` of Retry-After: seconds, date, garbage, none."""
    after = {"date": formatdate(now + 2, usegmt=True), "garbage": "soon", "none": None}.get(
        kind, kind
    )
    seconds = after if after is not None and after.lstrip("-").isdigit() else "30"
    headers = {"ratelimit-remaining": "0", "ratelimit-reset": seconds}
    if after is not None:
        headers["retry-after"] = after
    text = f"Request was throttled. Your rate limit resets in ~{seconds}s."
    return problem(429, text, headers=headers)


def failed(status: str) -> ASGIApp:
    """Return a response with a 5xx status."""
    return problem(int(status), "An internal error occurred. Please try again.")


def html(status: int = 200, content_type: str = "text/html") -> Response:
    """Return an HTML page."""
    return Response(HTML, status, media_type=content_type)


class Raw:
    """A response that is written to the socket directly and may violate HTTP."""

    def __init__(
        self, chunks: Iterable[bytes] | AsyncIterator[bytes] = (), ending: Ending = "close"
    ) -> None:
        self._chunks = chunks
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write, then close the connection, reset it, or hold it until the client closes it."""
        del send
        transport: asyncio.Transport = scope["extensions"][TRANSPORT]["transport"]
        entry = entry_of(scope)
        leaving = asyncio.create_task(_client_gone(receive))
        with suppress(asyncio.CancelledError):  # the client closed the connection meanwhile
            async for chunk in _each(self._chunks):
                if leaving.done():
                    break
                transport.write(chunk)
                entry.sent += len(chunk)
        if self._ending == "close":
            transport.close()
        elif self._ending == "reset":
            await asyncio.sleep(0.02)  # flush what was written
            _linger_zero(transport)
            transport.abort()
        await leaving


async def _each(chunks: Iterable[bytes] | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterator):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _linger_zero(transport: asyncio.Transport) -> None:
    """Make a close send RST instead of FIN."""
    handle = transport.get_extra_info("socket")
    if handle is not None and not transport.is_closing():
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def head(status: int, *headers: tuple[str, object]) -> bytes:
    """Return a status line and headers, including the empty line after them."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def dropped() -> ASGIApp:
    """Close the connection without a response."""
    return Raw()


def reset() -> ASGIApp:
    """Reset the connection without a response."""
    return Raw(ending="reset")


def silent() -> ASGIApp:
    """Never respond; hold the connection until the client closes it."""
    return Raw(ending="hold")


def cut_headers(status: int) -> ASGIApp:
    """End within the headers."""
    return Raw([f"HTTP/1.1 {status} Created\r\ncontent-type: applica".encode()])


def cut_body(status: int, content_type: str, body: bytes, *, ending: Ending) -> ASGIApp:
    """Send half of the body announced by Content-Length."""
    first = head(status, ("content-type", content_type), ("content-length", len(body)))
    return Raw([first, body[: len(body) // 2]], ending)


GZIP: Final = zlib.MAX_WBITS | 16  # zlib's value for this format


class ResponseWriter:
    """Sends one response.

    Args:
        send: Sends to the client.
        entry: Its row in the ledger.
        now: Seconds since 1970, as the emulator shows them.
        draw: Chooses the faults of the group `answer` when the response begins.
    """

    def __init__(
        self,
        send: Send,
        entry: RequestEntry,
        *,
        now: Callable[[], float],
        draw: Callable[[], Faults],
    ) -> None:
        self._send = send
        self._entry = entry
        self._now = now
        self._draw = draw
        self._compressor: zlib._Compress | None = None

    async def __call__(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self._entry.status = message["status"]
            faults = self._draw()
            self._entry.faults += [*faults]
            message = {**message, "headers": self._headers(message, faults)}
        elif self._compressor is not None:
            body = self._compressor.compress(message.get("body", b""))
            body += b"" if message.get("more_body") else self._compressor.flush()
            message = {**message, "body": body}
        await self._send(message)
        self._entry.sent += len(message.get("body", b""))

    def _headers(self, message: Message, faults: Faults) -> list[tuple[bytes, bytes]]:
        headers = [*message.get("headers", ())]
        if "answer_gzip" in faults:
            self._compressor = zlib.compressobj(wbits=GZIP)
            headers = [header for header in headers if header[0] != b"content-length"]
            headers.append((b"content-encoding", b"gzip"))
        date = _date(faults.get("answer_date", "0"), self._now())
        return headers if date is None else [*headers, (b"date", date.encode())]


def _date(wrong: str, now: float) -> str | None:
    if wrong == "none":
        return None
    try:
        return formatdate(int(now + float(wrong)), usegmt=True)
    except (ValueError, OverflowError, OSError):
        return "the day before yesterday"
