"""The bytes of an output: out of its ``data:`` URI, or fetched from a host that is allowed."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

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
from fleek.outbound.addresses import Policy, UnsafeAddress
from fleek.outbound.client import CallFailed, Client, NotSent, Response, ResponseLost
from fleek.providers.data_uri import DataUriUnreadable, decode, media_type
from fleek.providers.encoding import EncodingBroken, decoded
from fleek.providers.outputs import read_address, strange_address
from fleek.sniff.completeness import HEAD, MAGIC, Watcher
from fleek.sniff.page import expects_media, is_words_in_place

CHUNK: Final = 65_536  # bytes
WHOLE: Final = frozenset({200, 203, 206})  # with 206, only if all of it was sent
MISSING: Final = frozenset({403, 404, 410})
UNSUPPORTED: Final = "output_unsupported"
TOO_LARGE: Final = "output_too_large"

_RANGE: Final = re.compile(r"bytes 0-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one output may take. Times in seconds."""

    size: int = 2 * 1024**3  # bytes
    setting: str = "MAX_OUTPUT_BYTES"  # what the operator changes to allow more
    whole: float = 1800.0
    head: float = 60.0  # until the body begins, redirects included
    window: float = 30.0  # at least `slowest` x `window` bytes must come in any such time
    slowest: float = 1024.0  # bytes per second


async def read_output(
    client: Client,
    output: Output,
    limits: Limits,
    *,
    clock: Callable[[], float] = time.monotonic,
    words: Callable[[], Awaitable[bool]] | None = None,
) -> AsyncGenerator[bytes]:
    """Stream one output's bytes, out of its ``data:`` URI or from its address.

    An address that may not be fetched is a text if `words` says that the model makes texts.

    Raises:
        OutputUnsafe: The address, one that it leads to, or the size is not allowed; or it is
            none that can be fetched.
        OutputMissing: Its host answers that it is not there.
        OutputInterrupted: The bytes are cut, or come too slowly.
        OutputBroken: They are empty, not what was announced, or a page about an error.
        ResourcesExhausted: This process has no descriptors left.
        ProviderUnavailable: The host cannot be reached, or answers that it is busy.
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
    """Stream what a ``data:`` URI holds, a piece at a time: others get their turn."""
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
    """Stream what an address holds, and raise at the end if that was not all of it."""
    address = read_address(url)
    if address is None:
        kind = strange_address(url) or "a path, which leads nowhere from here"
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
    """Return the response with its body unread; `stack` closes it."""
    try:
        async with asyncio.timeout(limits.head):
            return await stack.enter_async_context(client.follow(url))
    except TimeoutError as error:
        raise ResponseLost("no response in time", late=True) from error


def _check(response: Response) -> None:
    status = response.status
    if status in MISSING:
        raise OutputMissing(f"the host of the output answered {status}")
    if status not in WHOLE or not _is_all(response):
        raise ProviderUnavailable(f"the host of the output answered {status}")


def _is_all(response: Response) -> bool:
    """Whether a 206, which was not asked for, holds the whole file."""
    if response.status != 206:
        return True
    given = _RANGE.fullmatch(response.headers.get("content-range", ""))
    return given is not None and int(given[1]) + 1 == int(given[2])


async def _watched(
    response: Response, chunks: AsyncIterator[bytes], url: str, limits: Limits
) -> AsyncIterator[bytes]:
    """Pass chunks on, and hold back the last word: whether that was all, and a file."""
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
    """Raise if what has come is not a file of the kind that was to come."""
    complete = watcher.size <= HEAD
    if is_words_in_place(watcher.head, path=path, announced=announced, complete=complete):
        raise ErrorPage("a page came in place of the output")
    if 0 < watcher.size < MAGIC and expects_media(path, announced):
        raise OutputBroken("the output ended early")


def _check_end(watcher: Watcher, *, framed: bool = True) -> None:
    """Raise if what has come is not all of a file; `framed`: the response said where it ends."""
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
    """Give chunks as they come, as long as they come fast enough.

    Only waiting for the host counts, not what is done with a chunk.
    """
    waited, size = 0.0, 0
    chunks = response.body
    while True:
        asked_at = clock()
        patience = min(limits.window - waited, give_up_at - asked_at)
        try:
            async with asyncio.timeout(max(patience, 0)):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise OutputInterrupted("the output came too slowly") from error
        if chunk is None:
            return
        waited, size = waited + clock() - asked_at, size + len(chunk)
        if size >= limits.window * limits.slowest:
            waited, size = 0.0, 0
        yield chunk


@contextmanager
def _translated(policy: Policy) -> Generator[None]:
    """Translate what goes wrong on the network; the output may be read again after any of it."""
    try:
        yield
    except UnsafeAddress as error:
        raise OutputUnsafe(f"the output is not fetched: {error}{_where(error, policy)}") from error
    except EncodingBroken as error:
        raise OutputBroken(f"the output cannot be unpacked: {error}") from error
    except (CallFailed, OSError) as error:
        exhausted = exhaustion(error)
        if exhausted is not None:
            raise exhausted from error
        lost = error if isinstance(error, ResponseLost) else None
        if isinstance(error, NotSent) or (lost is not None and lost.late):
            raise ProviderUnavailable("the host of the output cannot be reached") from error
        if lost is not None and lost.malformed:
            raise OutputBroken("the host of the output answers in broken HTTP") from error
        raise OutputInterrupted("the output was cut off") from error


def _where(error: UnsafeAddress, policy: Policy) -> str:
    """Return which host was refused, and what the operator may change about it."""
    if error.host is None or policy.setting is None:
        return ""
    return f": {error.host}; {policy.setting} says which hosts are allowed"


def _too_large(limits: Limits) -> OutputUnsafe:
    message = f"the output has more bytes than {limits.setting}={limits.size}"
    return OutputUnsafe(message, code=TOO_LARGE)
