"""Fetching outputs: all bytes from allowed hosts, or an error of the right kind."""

import asyncio
import base64
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from fleek.domain.attempt import Attempt
from fleek.domain.errors import (
    ErrorPage,
    OutputBroken,
    OutputInterrupted,
    OutputMissing,
    OutputUnsafe,
    ProviderUnavailable,
)
from fleek.domain.job import Job, PredictionId
from fleek.domain.media import Output
from fleek.emulator.server import Emulator
from fleek.providers.base import EXPIRED, Failed, Succeeded, SupportsRecall
from fleek.providers.download import Limits
from fleek.providers.replicate.provider import ReplicateProvider

TOO_SLOW = ("file_slow=100", "file_stall=64")
PNG_START = b"\x89PNG\r\n\x1a\n"


class Fetcher:
    """Start a prediction with a prompt and read its first output."""

    def __init__(self, job: Callable[..., Job], attempt: Callable[..., Attempt]) -> None:
        self.job, self.attempt = job, attempt

    async def __call__(self, provider: ReplicateProvider, prompt: str) -> bytes:
        """Return the bytes of the first output."""
        wanted = self.job(prompt)
        started = await provider.start(wanted, self.attempt(wanted))
        seen = (await provider.poll([started.id]))[started.id]
        assert isinstance(seen.outcome, Succeeded)
        return await self.bytes_of(provider, seen.outcome.outputs[0])

    async def bytes_of(self, provider: ReplicateProvider, output: Output) -> bytes:
        """Return the bytes of an output."""
        return b"".join([part async for part in provider.read(self.job(), output)])


@pytest.fixture
def fetcher(job: Callable[..., Job], attempt: Callable[..., Attempt]) -> Fetcher:
    """Return a fetcher of outputs."""
    return Fetcher(job, attempt)


@pytest.mark.parametrize(
    "marker",
    ["", "file_type=text/html", "file_redirect=3", "file_etag_changes", "output=data_uri"],
)
async def test_the_output_s_bytes_are_returned(
    provider: ReplicateProvider, emulator: Emulator, fetcher: Fetcher, marker: str
) -> None:
    """With any Content-Type and any form of output."""
    content = await fetcher(provider, f"[[emu:{marker}]]" if marker else "a cat")

    assert content.startswith(PNG_START)
    for row in emulator.ledger.rows("download")[-1:]:
        assert sha256(content).hexdigest() == row["sha256"]


@pytest.mark.parametrize(
    ("marker", "error", "code"),
    [
        ("file_truncate", OutputInterrupted, "output_interrupted"),
        ("file_reset", OutputInterrupted, "output_interrupted"),
        ("file_cut_chunked", OutputInterrupted, "output_interrupted"),
        ("file_cut_close", OutputInterrupted, "output_interrupted"),
        ("file_length_short", OutputBroken, "output_broken"),
        ("file_length_long", OutputInterrupted, "output_interrupted"),
        ("file_html", ErrorPage, "output_broken"),
        ("file_empty", OutputBroken, "output_broken"),
        ("file_gzip_bomb", OutputUnsafe, "output_too_large"),
        *((marker, OutputInterrupted, "output_interrupted") for marker in TOO_SLOW),
        ("file_gone=404", OutputMissing, "output_missing"),
        ("file_gone=403", OutputMissing, "output_missing"),
        ("file_gone=410", OutputMissing, "output_missing"),
        ("file_5xx", ProviderUnavailable, "provider_unavailable"),
        ("file_429", ProviderUnavailable, "provider_unavailable"),
        ("file_redirect=4", OutputUnsafe, "unsafe_output"),
        ("file_redirect_loop", OutputUnsafe, "unsafe_output"),
        ("file_redirect_to", OutputUnsafe, "unsafe_output"),
        ("file_redirect_to=http://127.0.0.1:1/x.png", OutputUnsafe, "unsafe_output"),
        ("file_redirect_to=file:///etc/passwd", OutputUnsafe, "unsafe_output"),
        ("file_endless", OutputUnsafe, "output_too_large"),
        ("output=dead_links", OutputMissing, "output_missing"),
    ],
)
async def test_each_fault_has_an_error_that_says_if_it_is_retryable(
    factory: Any, fetcher: Fetcher, marker: str, error: type[Exception], code: str
) -> None:
    """Incomplete bytes are never returned as complete."""
    window = 0.2 if marker in TOO_SLOW else 60
    quick = Limits(size=300_000, window=window, slowest=10_000)

    with pytest.raises(error) as caught:
        await fetcher(factory.open(limits=quick), f"[[emu:{marker}]]")

    assert getattr(caught.value, "code", None) == code


async def test_the_token_is_not_sent_to_the_output_host(
    provider: ReplicateProvider, emulator: Emulator, fetcher: Fetcher
) -> None:
    """Anyone may run that host."""
    await fetcher(provider, "[[emu:file_redirect]]")

    assert {row["authorization"] for row in emulator.ledger.rows("download")} == {False}


async def test_a_refused_host_is_named_with_the_setting(
    provider: ReplicateProvider, fetcher: Fetcher
) -> None:
    """Operators see what to change; the address itself is not repeated."""
    with pytest.raises(OutputUnsafe) as caught:
        await fetcher.bytes_of(provider, Output(uri="https://cdn.example.com/a?token=secret"))

    assert "cdn.example.com" in str(caught.value)
    assert "REPLICATE_OUTPUT_HOSTS" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_prediction_can_be_read_again(
    provider: ReplicateProvider, fetcher: Fetcher
) -> None:
    """Its outputs, that they were removed, or None."""
    ids: list[PredictionId] = []
    for prompt in ("a cat", "[[emu:get_data_removed]]"):
        wanted = fetcher.job(prompt)
        ids.append((await provider.start(wanted, fetcher.attempt(wanted))).id)
    there, removed = [await provider.recall(one) for one in ids]
    unknown = await provider.recall(PredictionId("nobody"))

    assert isinstance(provider, SupportsRecall)
    assert there is not None
    assert isinstance(there.outcome, Succeeded)
    assert removed is not None
    assert isinstance(removed.outcome, Failed)
    assert removed.outcome.code == EXPIRED
    assert unknown is None


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/x.png",
        "http://169.254.169.254/latest/",
        "https://replicate.delivery.evil.example/x.png",
        "ftp://127.0.0.1/x",
        "",
    ],
)
async def test_addresses_of_other_hosts_are_refused(
    provider: ReplicateProvider, fetcher: Fetcher, address: str
) -> None:
    """A model can be made to return any address."""
    with pytest.raises(OutputUnsafe):
        await fetcher.bytes_of(provider, Output(uri=address))


@pytest.mark.parametrize(
    ("uri", "content"),
    [
        ("data:text/plain,hello%20you", b"hello you"),
        ("data:text/plain;charset=utf-8;base64," + base64.b64encode(b"hi").decode(), b"hi"),
        ("DATA:;BASE64,aGk=", b"hi"),
    ],
)
async def test_data_uris_are_decoded(
    provider: ReplicateProvider, fetcher: Fetcher, uri: str, content: bytes
) -> None:
    """With and without base64, as the RFC allows."""
    assert await fetcher.bytes_of(provider, Output(uri=uri)) == content


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("data:image/png;base64,%%%", OutputBroken),
        ("data:image/png;base64,iVBORw0KGg", OutputBroken),
        ("data:image/png;base64,", OutputBroken),
        ("data:image/png;base64," + "A" * 400_000, OutputUnsafe),
    ],
    ids=["no base64", "cut", "empty", "too large"],
)
async def test_invalid_data_uris_are_refused(
    factory: Any, fetcher: Fetcher, uri: str, error: type[Exception]
) -> None:
    """They are as untrusted as any other output."""
    provider = factory.open(limits=Limits(size=200_000))

    with pytest.raises(error):
        await fetcher.bytes_of(provider, Output(uri=uri))


async def test_a_slow_reader_is_not_taken_for_a_slow_host(
    factory: Any, raw: Any, fetcher: Fetcher, ticks: Any
) -> None:
    """Storage may need time for each chunk."""

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + bytes(200_000))
        await writer.drain()
        await reader.read()

    url = await raw(give)
    provider = factory.open(
        url, limits=Limits(whole=1e9, window=60, slowest=1_000_000), clock=ticks
    )
    size = 0

    async for part in provider.read(fetcher.job(), Output(uri=f"{url}/x.bin")):
        size += len(part)
        ticks.seconds += 61

    assert size == 200_000


async def test_bytes_without_a_length_or_a_known_end_are_refused(
    factory: Any, raw: Any, fetcher: Fetcher
) -> None:
    """If the format has no end marker, truncation could not be noticed."""

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nsome words")
        await writer.drain()

    url = await raw(give)

    with pytest.raises(OutputBroken):
        await fetcher.bytes_of(factory.open(url), Output(uri=f"{url}/x.txt"))


async def test_an_unreachable_host_is_retryable(factory: Any, fetcher: Fetcher) -> None:
    """The file may still exist."""
    url = "http://127.0.0.1:1/v1"

    with pytest.raises(ProviderUnavailable):
        await fetcher.bytes_of(factory.open(url), Output(uri=f"{url}/x.png"))
