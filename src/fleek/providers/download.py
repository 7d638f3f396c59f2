"""The bytes of an output: decoded from a ``data:`` URI, or fetched from an allowed host."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, aclosing, contextmanager
from typing import Final
from urllib.parse import urlsplit

from fleek.domain.data_uri import DataUriUnreadable, decode, media_type
from fleek.domain.errors import (
    ErrorPage,
    OutputBroken,
    OutputInterrupted,
    OutputMissing,
    OutputUnsafe,
    ProviderUnavailable,
)
from fleek.domain.host_errors import exhaustion
from fleek.domain.media import Output
from fleek.domain.text import LongText, head_of, pieces_of
from fleek.domain.values import dataclass
from fleek.outbound.addresses import Policy, UnsafeAddress
from fleek.outbound.client import CallFailed, Client, NotSent, Response, ResponseLost
from fleek.providers.encoding import EncodingBroken, decoded
from fleek.providers.outputs import read_address, strange_address
from fleek.sniff.completeness import HEAD, MAGIC, Watcher
from fleek.sniff.page import expects_media, is_words_in_place

CHUNK: Final = 65_536  # bytes
WHOLE: Final = frozenset({200, 203, 206})  # 206 only if its range is the whole file
MISSING: Final = frozenset({403, 404, 410})
UNSUPPORTED: Final = "output_unsupported"
TOO_LARGE: Final = "output_too_large"

_RANGE: Final = re.compile(r"bytes 0-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one output. Times in seconds."""

    size: int = 2 * 1024**3  # bytes
    setting: str = "MAX_OUTPUT_BYTES"  # the setting of `size`, for messages
    whole: float = 1800.0
    head: float = 60.0  # until the body begins, redirects included
    window: float = 30.0  # at least `slowest` x `window` bytes must be received in each window
    slowest: float = 1024.0  # bytes per second


async def read_output(
    client: Client,
    output: Output,
    limits: Limits,
    *,
    clock: Callable[[], float] = time.monotonic,
    words: Callable[[], Awaitable[bool]] | None = None,
) -> AsyncGenerator[bytes]:
    """Stream one output's bytes, from its ``data:`` URI or from its address.

    An address that may not be fetched is treated as a text if `words` says that the model returns
    texts.

    Raises:
        OutputUnsafe: The address, the target of a redirect or the size is not allowed, or the
        address cannot be fetched.
        OutputMissing: The host responds that there is no such file.
        OutputInterrupted: The download broke off, or is too slow.
        OutputBroken: The file is empty, of another type than announced, or an error page.
        ResourcesExhausted: This process has no descriptors left.
        ProviderUnavailable: The host cannot be reached, or is busy.
    """
    uri = output.uri or ""
    if isinstance(uri, LongText) or uri[:5].lower() == "data:":
        chunks = _decoded(uri, limits)
    else:
        chunks = _fetched(client, uri, limits, clock)
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
    except OutputUnsafe as error:
        if error.code == TOO_LARGE or words is None or not await words():
            raise
        for piece in pieces_of(uri):
            yield piece.encode()


async def _decoded(uri: str | LongText, limits: Limits) -> AsyncGenerator[bytes]:
    """Decode a ``data:`` URI in pieces, so that other tasks run in between."""
    watcher = Watcher()
    try:
        decoding = decode(pieces_of(uri))
        while (chunk := await asyncio.to_thread(next, decoding, None)) is not None:
            watcher.see(chunk)
            if watcher.size > limits.size:
                raise _too_large(limits)
            yield chunk
    except DataUriUnreadable as error:
        raise OutputBroken(f"the output cannot be read: {error}") from error
    announced = media_type(head_of(uri))
    if expects_media("", announced):
        _check_media(watcher, "", announced)
    _check_end(watcher)


async def _fetched(
    client: Client, url: str, limits: Limits, clock: Callable[[], float]
) -> AsyncGenerator[bytes]:
    """Stream the file at an address; raises at the end if it was incomplete."""
    address = read_address(url)
    if address is None:
        kind = strange_address(url) or "a path"
        raise OutputUnsafe(f"the output is {kind}: it cannot be fetched", code=UNSUPPORTED)
    url, give_up_at = address, clock() + limits.whole
    with _translated(client.policy):
        async with AsyncExitStack() as stack:
            response = await _begun(stack, client, url, limits)
            _check(response)
            chunks = _paced(response, limits, clock, give_up_at)
            async for chunk in _watched(response, chunks, url, limits):
                yield chunk


async def _begun(stack: AsyncExitStack, client: Client, url: str, limits: Limits) -> Response:
    """Return the response before its body is read; `stack` closes it."""
    try:
        async with asyncio.timeout(limits.head):
            return await stack.enter_async_context(client.follow(url))
    except TimeoutError as error:
        raise ResponseLost("no response in time", late=True) from error


def _check(response: Response) -> None:
    status = response.status
    if status in MISSING:
        raise OutputMissing(f"the host of the output responded with {status}")
    if status not in WHOLE or not _is_all(response):
        raise ProviderUnavailable(f"the host of the output responded with {status}")


def _is_all(response: Response) -> bool:
    """Whether a 206, which was not requested, contains the whole file."""
    if response.status != 206:
        return True
    match = _RANGE.fullmatch(response.headers.get("content-range", ""))
    return match is not None and int(match[1]) + 1 == int(match[2])


async def _watched(
    response: Response, chunks: AsyncIterator[bytes], url: str, limits: Limits
) -> AsyncIterator[bytes]:
    """Pass chunks on; raises at the end if the file is incomplete or of the wrong kind."""
    watcher = Watcher()
    path, announced = urlsplit(url).path, response.headers.get("content-type", "")
    async for chunk in decoded(chunks, response.headers, path=path):
        watcher.see(chunk)
        if watcher.size > limits.size:
            raise _too_large(limits)
        yield chunk
    framed = "content-length" in response.headers or "transfer-encoding" in response.headers
    _check_media(watcher, path, announced)
    _check_end(watcher, framed=framed)


def _check_media(watcher: Watcher, path: str, announced: str) -> None:
    """Raise if the content is not a file of the announced kind."""
    complete = watcher.size <= HEAD
    if is_words_in_place(watcher.head, path=path, announced=announced, complete=complete):
        raise ErrorPage("the host sent a page instead of the output")
    if 0 < watcher.size < MAGIC and expects_media(path, announced):
        raise OutputBroken("the output ended early")


def _check_end(watcher: Watcher, *, framed: bool = True) -> None:
    """Raise if the file is incomplete; `framed`: the response marked its own end."""
    if watcher.size == 0:
        raise OutputBroken("the output is empty")
    if watcher.whole:
        return
    if not framed:
        raise OutputInterrupted("the output ended early")
    if watcher.whole is False:
        raise OutputBroken("the output ended early")


async def _paced(
    response: Response, limits: Limits, clock: Callable[[], float], give_up_at: float
) -> AsyncIterator[bytes]:
    """Yield chunks as they are received, as long as they are fast enough.

    Only the time spent waiting for the host counts, not the processing of chunks.
    """
    waited, size = 0.0, 0
    chunks = response.body
    while True:
        started_at = clock()
        timeout = min(limits.window - waited, give_up_at - started_at)
        try:
            async with asyncio.timeout(max(timeout, 0)):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise OutputInterrupted("the download of the output was too slow") from error
        if chunk is None:
            return
        waited, size = waited + clock() - started_at, size + len(chunk)
        if size >= limits.window * limits.slowest:
            waited, size = 0.0, 0
        yield chunk


@contextmanager
def _translated(policy: Policy) -> Generator[None]:
    """Translate network errors; the output may be read again after any of them."""
    try:
        yield
    except UnsafeAddress as error:
        raise OutputUnsafe(f"the output is not fetched: {error}{_where(error, policy)}") from error
    except EncodingBroken as error:
        raise OutputBroken(f"the output cannot be decompressed: {error}") from error
    except (CallFailed, OSError) as error:
        exhausted = exhaustion(error)
        if exhausted is not None:
            raise exhausted from error
        lost = error if isinstance(error, ResponseLost) else None
        if isinstance(error, NotSent) or (lost is not None and lost.late):
            raise ProviderUnavailable("the host of the output cannot be reached") from error
        if lost is not None and lost.malformed:
            raise OutputBroken("the host of the output sent an invalid HTTP response") from error
        raise OutputInterrupted("the output was cut off") from error


def _where(error: UnsafeAddress, policy: Policy) -> str:
    """Return the refused host, and the setting that allows hosts."""
    if error.host is None or policy.setting is None:
        return ""
    return f": {error.host}; {policy.setting} lists the allowed hosts"


def _too_large(limits: Limits) -> OutputUnsafe:
    message = f"the output is larger than {limits.setting}={limits.size} bytes"
    return OutputUnsafe(message, code=TOO_LARGE)
