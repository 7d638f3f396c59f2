"""Media inputs at Replicate: how they are sent, and how a lost prediction is found by them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from fakes import PNG
from fleek.domain.attempt import Attempt
from fleek.domain.errors import InputUnusable, OutcomeUnknown, ProviderUnavailable
from fleek.domain.inputs import with_values
from fleek.domain.job import Job
from fleek.emulator.server import Emulator
from fleek.providers.base import InputFile
from fleek.providers.replicate.provider import INLINE_BYTES, ReplicateProvider
from listening import Visit

LARGE: Final = PNG + bytes(range(256)) * 2048
LOST: Final = "[[emu:create_then_drop*all]]"


def answering(response: str) -> Visit:
    """Return a handler that reads a whole request, and sends this response."""

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].split("\r\n")[0]))
        writer.write(response.encode())
        await writer.drain()

    return visit


def file_of(tmp_path: Path, content: bytes) -> InputFile:
    """Return a media input with these bytes."""
    path = tmp_path / "input"
    path.write_bytes(content)
    return InputFile(
        path=path,
        name="cat.png",
        sha256=sha256(content).hexdigest(),
        size_bytes=len(content),
        content_type="image/png",
    )


async def test_a_small_file_goes_with_the_request(
    provider: ReplicateProvider, emulator: Emulator, tmp_path: Path
) -> None:
    """It saves a call, and leaves nothing at the provider."""
    value = await provider.upload(file_of(tmp_path, PNG + bytes(INLINE_BYTES - len(PNG))))

    assert value.startswith("data:image/png;base64,iVBOR")
    assert emulator.account.uploads == {}


async def test_a_large_file_is_sent_first(
    provider: ReplicateProvider, emulator: Emulator, tmp_path: Path
) -> None:
    """Its address is sent instead."""
    value = await provider.upload(file_of(tmp_path, LARGE))

    (stored,) = emulator.account.uploads.values()
    assert value == f"{emulator.api_url}/files/{stored.id}"
    assert (stored.content, stored.content_type, stored.name) == (LARGE, "image/png", "cat.png")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, InputUnusable),
        (413, InputUnusable),
        (422, InputUnusable),
        (401, ProviderUnavailable),
        (429, ProviderUnavailable),
        (500, ProviderUnavailable),
    ],
)
async def test_a_refused_file_creates_no_prediction(
    factory: Any, raw: Any, tmp_path: Path, status: int, expected: type[Exception]
) -> None:
    """Permanently or temporarily."""
    provider = factory.open(
        await raw(answering(f"HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n"))
    )

    with pytest.raises(expected):
        await provider.upload(file_of(tmp_path, LARGE))


@pytest.mark.parametrize("body", ["{}", '{"urls":{"get":5}}', '{"urls":{"get":"file:///x"}}', "x"])
async def test_an_upload_response_without_an_address_is_refused(
    factory: Any, raw: Any, tmp_path: Path, body: str
) -> None:
    """The upload is retried."""
    head = f"HTTP/1.1 201 Created\r\ncontent-length: {len(body)}\r\n\r\n"
    provider = factory.open(await raw(answering(head + body)))

    with pytest.raises(ProviderUnavailable):
        await provider.upload(file_of(tmp_path, LARGE))


@pytest.mark.parametrize("content", [PNG, LARGE], ids=["inline", "by address"])
async def test_a_lost_prediction_is_found_by_its_files(
    provider: ReplicateProvider,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    tmp_path: Path,
    content: bytes,
) -> None:
    """By their bytes or their addresses, not by the reference in the job."""
    wanted = job(LOST, image="upload:1", seed=1)
    intent, sent = await _sent(provider, wanted, attempt(wanted), file_of(tmp_path, content))
    other, other_sent = await _sent(
        provider, wanted, attempt(wanted), file_of(tmp_path, content + b"x")
    )
    for one, with_file in ((intent, sent), (other, other_sent)):
        with pytest.raises(OutcomeUnknown):
            await provider.start(with_file, one)

    found = await provider.find(wanted, intent, now=datetime.now(UTC))

    assert found.complete
    assert len(found.candidates) == 1


@pytest.mark.parametrize("size", [1000, 2 * INLINE_BYTES], ids=["inline", "by address"])
@pytest.mark.parametrize(
    ("parameter", "name", "content_type"),
    [
        ("start_image", "cat.png", "image/png"),  # image to video
        ("audio", "voice.wav", "audio/wav"),  # sound to anything
        ("reference_video", "walk.mp4", "video/mp4"),
    ],
)
async def test_files_of_any_kind_reach_the_prediction(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    tmp_path: Path,
    *,
    parameter: str,
    name: str,
    content_type: str,
    size: int,
) -> None:
    """With their type: pictures for films, and sounds."""
    content = bytes(range(250)) * (size // 250)
    file = replace(file_of(tmp_path, content), name=name, content_type=content_type)
    value = await provider.upload(file)
    wanted = job("it moves", **{parameter: value})
    inputs = {f"/{parameter}": {"sha256": file.sha256}}

    await provider.start(wanted, replace(attempt(wanted), inputs=inputs))

    (made,) = emulator.account.predictions
    assert made.input[parameter] == value
    if size <= INLINE_BYTES:
        assert value.startswith(f"data:{content_type};base64,")
    else:
        (stored,) = emulator.account.uploads.values()
        assert (stored.content, stored.content_type) == (content, content_type)


async def test_a_file_without_comparable_content_proves_nothing(
    provider: ReplicateProvider,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    tmp_path: Path,
) -> None:
    """If Replicate showed an inline file under an address, its absence must not be concluded."""
    wanted = job(LOST, image="upload:1", seed=1)
    intent, _ = await _sent(provider, wanted, attempt(wanted), file_of(tmp_path, PNG))
    shown = replace(wanted, input={"image": "https://replicate.delivery/x.png", "seed": 1})
    with pytest.raises(OutcomeUnknown):
        await provider.start(shown, intent)

    found = await provider.find(wanted, intent, now=datetime.now(UTC))

    assert (found.candidates, found.complete) == ((), False)


async def _sent(
    provider: ReplicateProvider, job: Job, intent: Attempt, file: InputFile
) -> tuple[Attempt, Job]:
    """Return an intent and its job with a file, as the engine creates them."""
    value = await provider.upload(file)
    address = {} if value.startswith("data:") else {"address": value}
    inputs = {"/image": {"sha256": file.sha256, **address}}
    return replace(intent, inputs=inputs), replace(
        job, input=with_values(job.input, {"/image": value})
    )
