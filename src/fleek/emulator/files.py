"""The host of output files: without a token, intact or with faults."""

import asyncio
import gzip
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final
from zlib import crc32

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.media import CONTENT_TYPES, file_name, gzip_bomb, pixel_bomb, render
from fleek.emulator.predictions import Prediction
from fleek.emulator.responses import (
    HTML,
    Raw,
    cut_body,
    dropped,
    entry_of,
    failed,
    head,
    reset,
    throttled,
)

PAGES: Final[Mapping[str, bytes]] = {
    name: page.encode()
    for name, page in {
        "html": "<!doctype html><title>Error</title><h1>Something went wrong</h1>",
        "bare": "  <html><body>404</body></html>",
        "comment": "<!-- cache miss --><HTML><body>Service unavailable</body></HTML>",
        "xhtml": '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>502</body></html>',
        "s3": '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
        "<Message>The specified key does not exist.</Message></Error>",
        "json": '{"error": "file not found"}',
        "problem": '{"title": "Not Found", "status": 404, "detail": "gone"}',
        "text": "Not Found",
        "sentence": "The requested file could not be found on this server.",
        "german": "Fehler 404: Die angeforderte Datei wurde nicht gefunden.",
        "french": "Erreur interne du serveur. Veuillez réessayer plus tard.",
        "spanish": "Error: no se encontró el archivo solicitado.",
        "chinese": "找不到请求的文件。",
        "japanese": "エラーが発生しました。しばらくしてからもう一度お試しください。",
        "russian": "Ошибка 503: служба временно недоступна.",
        "arabic": "خطأ: الملف غير موجود.",
        "gateway": "upstream connect error or disconnect/reset before headers",
        "bom": "\ufeff<!DOCTYPE html><title>Bad gateway</title>",
    }.items()
}


def page(name: str, seed: str) -> bytes:
    """Return a page by its name; for other names, one chosen by the seed."""
    names = sorted(PAGES)
    return PAGES.get(name) or PAGES[names[crc32(seed.encode()) % len(names)]]


RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
SVG: Final = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@dataclass(frozen=True, slots=True)
class Delivery:
    """The delivery of a file."""

    content: bytes
    content_type: str
    etag: str

    @property
    def half(self) -> bytes:
        """Its first half."""
        return self.content[: len(self.content) // 2]


def deliver(
    request: Request, delivery: Delivery, faults: Mapping[str, str], now: float
) -> ASGIApp:
    """Respond with the file, with the given faults."""
    for name, argument in faults.items():
        if name == "file_429":
            return throttled(argument, now)
        if name == "file_redirect" and int(request.query_params.get("hop", 0)) < int(argument):
            hop = int(request.query_params.get("hop", 0)) + 1
            return RedirectResponse(str(request.url.include_query_params(hop=hop)), 302)
        if name == "file_redirect_loop":
            return RedirectResponse(str(request.url), 302)
        if name == "file_etag_changes":
            delivery = replace(delivery, etag=f'"{secrets.token_hex(16)}"')
        if name in LIES:
            return LIES[name](delivery, argument)
    return _whole_or_range(request, delivery, ranges="file_range_ignored" not in faults)


def _whole_or_range(request: Request, delivery: Delivery, *, ranges: bool) -> ASGIApp:
    headers = {"etag": delivery.etag}
    if ranges:
        headers["accept-ranges"] = "bytes"
    match = RANGE.fullmatch(request.headers.get("range", ""))
    fresh = request.headers.get("if-range", delivery.etag) == delivery.etag
    if match is None or not ranges or not fresh:
        return Response(delivery.content, 200, headers, media_type=delivery.content_type)
    size = len(delivery.content)
    first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
    if first > last:
        return Response(b"", 416, {"content-range": f"bytes */{size}"})
    headers["content-range"] = f"bytes {first}-{last}/{size}"
    part = delivery.content[first : last + 1]
    return Response(part, 206, headers, media_type=delivery.content_type)


def _slow(delivery: Delivery, argument: str) -> ASGIApp:
    async def drip() -> AsyncIterator[bytes]:
        rate = float(argument)
        step = max(1, int(rate / 10))
        for start in range(0, len(delivery.content), step):
            yield delivery.content[start : start + step]
            await asyncio.sleep(step / rate)

    length = {"content-length": str(len(delivery.content))}
    return StreamingResponse(drip(), 200, length, media_type=delivery.content_type)


def _stall(delivery: Delivery, argument: str) -> ASGIApp:
    first = _head(delivery, len(delivery.content))
    return Raw([first, delivery.content[: int(argument)]], "hold")


def _cut_chunked(delivery: Delivery, _: str) -> ASGIApp:
    first = head(200, ("content-type", delivery.content_type), ("transfer-encoding", "chunked"))
    return Raw([first, b"%x\r\n" % len(delivery.half), delivery.half, b"\r\n"])


def _cut_close(delivery: Delivery, _: str) -> ASGIApp:
    first = head(200, ("content-type", delivery.content_type), ("connection", "close"))
    return Raw([first, delivery.half])


def _endless(delivery: Delivery, _: str) -> ASGIApp:
    async def pour() -> AsyncIterator[bytes]:
        yield delivery.content
        while True:
            yield bytes(65_536)
            await asyncio.sleep(0)

    return StreamingResponse(pour(), media_type=delivery.content_type)


def _gzip(delivery: Delivery, _: str) -> ASGIApp:
    headers = {"content-encoding": "gzip"}
    packed = gzip.compress(delivery.content)
    return Response(packed, 200, headers, media_type=delivery.content_type)


def _gzip_bomb(delivery: Delivery, _: str) -> ASGIApp:
    async def pour() -> AsyncIterator[bytes]:
        start, piece = gzip_bomb()
        yield start
        while True:
            yield piece
            await asyncio.sleep(0)

    headers = {"content-encoding": "gzip"}
    return StreamingResponse(pour(), 200, headers, media_type=delivery.content_type)


def _head(delivery: Delivery, length: int) -> bytes:
    return head(200, ("content-type", delivery.content_type), ("content-length", length))


def _whole(delivery: Delivery, content: bytes, content_type: str | None = None) -> ASGIApp:
    return Response(content, media_type=content_type or delivery.content_type)


Lie = Callable[[Delivery, str], ASGIApp]

LIES: Final[Mapping[str, Lie]] = {
    "file_slow": _slow,
    "file_stall": _stall,
    "file_truncate": lambda it, _: cut_body(200, it.content_type, it.content, ending="close"),
    "file_reset": lambda it, _: cut_body(200, it.content_type, it.content, ending="reset"),
    "file_cut_chunked": _cut_chunked,
    "file_cut_close": _cut_close,
    "file_length_short": lambda it, _: Raw([_head(it, len(it.half)), it.content]),
    "file_length_long": lambda it, _: Raw([_head(it, len(it.content) + 1000), it.content]),
    "file_type": lambda it, argument: _whole(it, it.content, argument),
    "file_html": lambda it, _: _whole(it, HTML),
    "file_page": lambda it, name: _whole(it, page(name, it.etag)),
    "file_gzip": _gzip,
    "file_drop": lambda *_: dropped(),
    "file_svg": lambda it, _: _whole(it, SVG, "image/svg+xml"),
    "file_endless": _endless,
    "file_gzip_bomb": _gzip_bomb,
    "file_pixel_bomb": lambda it, _: _whole(it, pixel_bomb(), "image/png"),
    "file_empty": lambda it, _: _whole(it, b""),
    "file_gone": lambda _, status: Response("gone", int(status), media_type="text/plain"),
    "file_5xx": lambda _, status: failed(status),
    "file_redirect_to": lambda _, address: RedirectResponse(address, 302),
}

FAILURES: Final[Mapping[str, Callable[[], ASGIApp]]] = {
    "output_404": lambda: Response("Not Found", 404, media_type="text/plain"),
    "output_403": lambda: Response("Forbidden", 403, media_type="text/plain"),
    "output_5xx": lambda: failed("503"),
    "output_reset": reset,
}
"""Responses of a file that is not available yet."""


def routes() -> list[Route]:
    """Return the route of output files."""
    return [Route("/out/{id}/{n:int}.{extension}", _download, methods=["GET"])]


async def _download(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = account.by_id.get(request.path_params["id"])
    n, extension = int(request.path_params["n"]), request.path_params["extension"]
    return deliver_output(request, prediction, n, extension=extension)


def deliver_output(
    request: Request,
    prediction: Prediction | None,
    n: int,
    *,
    extension: str,
    authorized: bool = False,
) -> ASGIApp:
    """Respond with the n-th output of a prediction, with the faults that the sampler draws.

    `authorized`: the address is a part of the API, which needs the token.
    """
    account: Account = request.app.state.account
    entry = entry_of(request.scope)
    entry.download = {
        "id": request.path_params["id"],
        "n": n,
        "range": request.headers.get("range"),
        # the token must not be sent to a host of files
        "authorization": "authorization" in request.headers and not authorized,
        "sha256": None,
    }
    if prediction is None or not _available(account, prediction, n, extension):
        return Response("Not Found", 404, media_type="text/plain")
    if (failure := _failure(account, prediction, n)) is not None:
        return failure
    faults = account.sampler.draw(
        account.plan,
        "file",
        subject=f"{prediction.id}/{n}",
        markers=prediction.markers,
        model=prediction.model,
    )
    entry.faults += [*faults]
    padding = bytes(int(float(prediction.traits.get("output_padded", 0))))
    content = render(file_name(prediction.id, n), prediction.extension) + padding
    digest = sha256(content).hexdigest()
    entry.download["sha256"] = digest  # of the whole file
    kind = CONTENT_TYPES[prediction.extension]
    return deliver(request, Delivery(content, kind, f'"{digest[:32]}"'), faults, account.now())


def _failure(account: Account, prediction: Prediction, n: int) -> ASGIApp | None:
    """Return a failure, as often or as long as the prediction's traits require; None: succeed."""
    if not account.plan.injecting:
        return None
    traits, times = prediction.traits, account.failed[prediction.id, n]
    if account.now() - prediction.ended_at < float(traits.get("output_away", 0)):
        return dropped()
    for name, fail in FAILURES.items():
        if times < float(traits.get(name, 0)):
            account.failed[prediction.id, n] += 1
            return fail()
    return None


def _available(account: Account, prediction: Prediction, n: int, extension: str) -> bool:
    now = account.now()
    missing = "missing_output" in prediction.traits and n == prediction.images - 1
    return (
        0 <= n < prediction.images
        and not missing
        and extension == prediction.extension
        and prediction.status(now) == "succeeded"
        and now < prediction.ended_at + account.plan.file_ttl_seconds
    )
