"""The bytes of an output: out of its ``data:`` URI, or fetched from a host that is allowed."""

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

import httpx2

from fleek.domain.errors import (
    ErrorPage,
    OutputBroken,
    OutputInterrupted,
    OutputMissing,
    OutputUnsafe,
    ProviderUnavailable,
)
from fleek.domain.hostfaults import exhaustion
from fleek.domain.media import Output
from fleek.outbound import Policy, UnsafeAddress, open_stream
from fleek.sniff.whole import Watcher

CHUNK: Final = 65_536  # bytes; a multiple of four, as base64 is
MISSING: Final = frozenset({403, 404, 410})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one output may take. Times in seconds."""

    size: int = 2 * 1024**3  # bytes
    whole: float = 1800.0
    window: float = 30.0  # at least `slowest` x `window` bytes must come in any such time
    slowest: float = 1024.0  # bytes per second


async def read_output(
    client: httpx2.AsyncClient,
    output: Output,
    policy: Policy,
    limits: Limits,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[bytes]:
    """Stream one output's bytes, out of its ``data:`` URI or from its address.

    Raises:
        OutputUnsafe: The address, one that it leads to, or the size is not allowed.
        OutputMissing: Its host answers that it is not there.
        OutputInterrupted: The bytes are cut, or come too slowly.
        OutputBroken: They are empty, not what was announced, or a page about an error.
        ResourcesExhausted: This process has no descriptors left.
        ProviderUnavailable: The host cannot be reached, or answers that it is busy.
    """
    uri = output.uri or ""
    if uri[:5].lower() == "data:":
        chunks = _decoded(uri, limits)
    else:
        chunks = _fetched(client, uri, policy, limits, clock)
    async with aclosing(chunks):
        async for chunk in chunks:
            yield chunk


async def _decoded(uri: str, limits: Limits) -> AsyncGenerator[bytes]:
    """Stream what a ``data:`` URI holds, a part at a time: others get their turn."""
    head, _, encoded = uri.partition(",")
    if len(encoded) > limits.size * 4 // 3 + 4:
        raise _too_large(limits)
    written = unquote_to_bytes(encoded)
    if not written:
        raise OutputBroken("the output is empty")
    decode = _from_base64 if head.lower().endswith(";base64") else bytes
    for start in range(0, len(written), CHUNK):
        yield decode(written[start : start + CHUNK])
        await asyncio.sleep(0)


def _from_base64(part: bytes) -> bytes:
    try:
        return base64.b64decode(part, validate=True)
    except ValueError as error:
        raise OutputBroken("the output is not the base64 that it says") from error


async def _fetched(
    client: httpx2.AsyncClient,
    url: str,
    policy: Policy,
    limits: Limits,
    clock: Callable[[], float],
) -> AsyncGenerator[bytes]:
    """Stream what an address holds, and raise at the end if that was not all of it."""
    give_up_at = clock() + limits.whole
    with _translated():
        async with open_stream(client, url, policy) as response:
            _check(response)
            chunks = _paced(response, limits, clock, give_up_at)
            async for chunk in _watched(response, chunks, url, limits):
                yield chunk


def _check(response: httpx2.Response) -> None:
    status = response.status_code
    if status in MISSING:
        raise OutputMissing(f"the host of the output answered {status}")
    if status != 200:
        raise ProviderUnavailable(f"the host of the output answered {status}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise OutputBroken("the output came compressed, which was not asked for")


async def _watched(
    response: httpx2.Response, chunks: AsyncIterator[bytes], url: str, limits: Limits
) -> AsyncIterator[bytes]:
    """Pass chunks on, and hold back the last word: whether that was all, and a file."""
    watcher = Watcher()
    path = httpx2.URL(url).path
    async for chunk in chunks:
        watcher.see(chunk)
        if watcher.size > limits.size:
            raise _too_large(limits)
        if watcher.is_page(path):
            raise ErrorPage("a page came in place of the output")
        yield chunk
    told = "content-length" in response.headers or "transfer-encoding" in response.headers
    if watcher.size == 0:
        raise OutputBroken("the output is empty")
    if watcher.whole:
        return
    if not told:
        raise OutputInterrupted("the output ended early")
    if watcher.whole is False:
        raise OutputBroken("the output ended early")


async def _paced(
    response: httpx2.Response, limits: Limits, clock: Callable[[], float], give_up_at: float
) -> AsyncIterator[bytes]:
    """Give chunks as they come, as long as they come fast enough.

    Only waiting for the host counts, not what is done with a chunk.
    """
    waited, size = 0.0, 0
    chunks = response.aiter_raw().__aiter__()
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
def _translated() -> Generator[None]:
    """Translate what goes wrong on the network; the output may be read again after any of it."""
    try:
        yield
    except UnsafeAddress as error:
        raise OutputUnsafe(f"the output is not fetched: {error}") from error
    except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
        exhausted = exhaustion(error)
        if exhausted is not None:
            raise exhausted from error
        if isinstance(error, httpx2.ConnectError | httpx2.TimeoutException):
            raise ProviderUnavailable("the host of the output cannot be reached") from error
        raise OutputInterrupted("the output was cut off") from error


def _too_large(limits: Limits) -> OutputUnsafe:
    return OutputUnsafe(f"the output has more than {limits.size} bytes", code="output_too_large")
