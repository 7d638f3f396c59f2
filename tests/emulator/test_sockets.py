"""Faults of the connection itself, observed through a raw socket."""

import asyncio
import json
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from fleek.emulator.media import render
from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve

SILENCE_SECONDS = 0.25  # after which an expected silence counts as such
LIMIT = 30  # seconds for everything else

Silent = Callable[[bytes], bool]
"""Whether nothing more is expected after so much."""


@pytest.fixture
async def emulator() -> AsyncGenerator[Emulator]:
    """Run an emulator with a second port for its files."""
    async with serve(Plan(queue_seconds=0, predict_seconds=0), delivery_port=0) as emulator:
        yield emulator


def never(_received: bytes) -> bool:
    """Expect more data."""
    return False


async def ask(
    url: str, text: str, *, most: int = 4_000_000, silent: Silent = never
) -> tuple[bytes, str]:
    """Send a request, and return the response and its ending: closed, reset, held or more."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(text.encode())
    received, ending = b"", "more"
    try:
        while len(received) < most:
            patience = SILENCE_SECONDS if silent(received) else LIMIT
            piece = await asyncio.wait_for(reader.read(65_536), patience)
            received += piece
            if not piece:
                ending = "closed"
                break
    except TimeoutError:
        ending = "held"
    except ConnectionResetError:
        ending = "reset"
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return received, ending


async def create(emulator: Emulator, prompt: str, *, silent: Silent = never) -> tuple[bytes, str]:
    """Create a prediction over a socket."""
    body = json.dumps({"version": "a/b", "input": {"prompt": prompt}})
    head = "POST /v1/predictions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer t\r\nconnection: close\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n{body}"
    return await ask(emulator.base_url, request, silent=silent)


async def download(emulator: Emulator, prompt: str, **more: Any) -> tuple[bytes, bytes, str]:
    """Create a prediction and fetch its file over a socket: head, body, ending."""
    await create(emulator, prompt)
    prediction = emulator.account.predictions[-1]
    line = f"GET /out/{prediction.id}/0.png HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    received, ending = await ask(emulator.delivery_url, line, **more)
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body, ending


def true_file(emulator: Emulator) -> bytes:
    """Return the actual bytes of the last prediction's file."""
    return render(f"{emulator.account.predictions[-1].id}/0", "png")


@pytest.mark.parametrize(
    ("fault", "ending", "recorded", "fate"),
    [
        ("create_reset", "reset", 0, None),
        ("create_drop", "closed", 0, None),
        ("create_hang=60", "held", 0, None),
        ("lost_response", "closed", 1, "lost"),
        ("create_then_reset", "reset", 1, "reset"),
        ("create_then_timeout", "held", 1, "lost"),
        ("create_then_delay=60", "held", 1, "late"),
    ],
)
async def test_no_response_at_all(
    emulator: Emulator, fault: str, ending: str, recorded: int, fate: str | None
) -> None:
    """The client cannot see whether the prediction exists; only the ledger shows it."""
    prompt = f"[[emu:{fault}]]"
    received, ended = await create(emulator, prompt, silent=lambda _: ending == "held")
    async with asyncio.timeout(LIMIT):  # it may read the request after the disconnect
        while len(emulator.account.predictions) < recorded:
            await asyncio.sleep(0.01)

    fates = [prediction.fate for prediction in emulator.account.predictions]
    assert (received, ended) == (b"", ending)
    assert fates == [fate] * recorded


async def test_a_response_that_ends_within_its_headers(emulator: Emulator) -> None:
    """The status line arrives, but not the id."""
    received, ending = await create(emulator, "[[emu:create_cut_headers]]")

    assert received.startswith(b"HTTP/1.1 201 Created\r\n")
    assert b"\r\n\r\n" not in received
    assert ending == "closed"


async def test_a_response_that_is_reset_within_its_body(emulator: Emulator) -> None:
    """Content-Length promised more."""
    received, ending = await create(emulator, "[[emu:create_cut_body]]")

    head, _, body = received.partition(b"\r\n\r\n")
    assert 0 < len(body) < (_length(head) or 0)
    assert ending == "reset"


@pytest.mark.parametrize(
    ("fault", "ending", "promised", "sent"),
    [
        ("file_truncate", "closed", 1.0, 0.5),
        ("file_reset", "reset", 1.0, 0.5),
        ("file_length_short", "closed", 0.5, 1.0),
        ("file_cut_close", "closed", None, 0.5),
    ],
)
async def test_a_file_may_be_truncated(
    emulator: Emulator, fault: str, ending: str, promised: float | None, sent: float
) -> None:
    """Each kind of truncation looks different on the wire."""
    head, body, ended = await download(emulator, f"[[emu:{fault}]]")

    whole = true_file(emulator)
    assert ended == ending
    assert body == whole[: int(len(whole) * sent)]
    assert _length(head) == (None if promised is None else int(len(whole) * promised))


async def test_a_file_shorter_than_its_length(emulator: Emulator) -> None:
    """All of it arrives, but Content-Length is not reached."""
    head, body, ending = await download(emulator, "[[emu:file_length_long]]")

    assert body == true_file(emulator)
    assert (_length(head), ending) == (len(body) + 1000, "closed")


async def test_chunks_without_a_last_one(emulator: Emulator) -> None:
    """Only the missing end shows that something is missing."""
    head, body, ending = await download(emulator, "[[emu:file_cut_chunked]]")

    assert b"transfer-encoding: chunked" in head
    assert not body.endswith(b"0\r\n\r\n")
    assert ending == "closed"


async def test_a_file_that_stalls(emulator: Emulator) -> None:
    """A number of bytes, then silence."""
    _, body, ending = await download(
        emulator,
        "[[emu:file_stall=10]]",
        silent=lambda got: len(got.partition(b"\r\n\r\n")[2]) >= 10,
    )

    assert (body, ending) == (true_file(emulator)[:10], "held")


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_file_that_drips(emulator: Emulator) -> None:
    """Bytes keep arriving slowly, without an end."""
    _, body, ending = await download(emulator, "[[emu:file_slow=200]]", most=350)

    assert 0 < len(body) < len(true_file(emulator))
    assert ending == "more"


@pytest.mark.parametrize("fault", ["file_endless", "file_gzip_bomb"])
async def test_a_file_without_an_end(emulator: Emulator, fault: str) -> None:
    """Clients without a limit run out of memory or disk."""
    _, _, ending = await download(emulator, f"[[emu:{fault}]]", most=1_000_000)

    assert ending == "more"


async def test_the_decompression_bomb_expands(emulator: Emulator) -> None:
    """A kilobyte on the wire is a megabyte in memory."""
    head, body, _ = await download(emulator, "[[emu:file_gzip_bomb]]", most=20_000)

    unpacked = zlib.decompressobj(wbits=31).decompress(_unchunk(body))
    assert b"content-encoding: gzip" in head
    assert len(unpacked) > 100 * len(body)


async def test_the_second_port_serves_files_only(emulator: Emulator) -> None:
    """Files come from another host than the API, so that lists of hosts can be tested."""
    head, body, _ = await download(emulator, "fine")

    line = "GET /v1/account HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    received, _ = await ask(emulator.delivery_url, line)
    assert emulator.delivery_url != emulator.base_url
    assert body == true_file(emulator)
    assert b"image/png" in head
    assert received.startswith(b"HTTP/1.1 401")


async def test_closing_does_not_wait_for_hanging_requests() -> None:
    """A test with a request that hangs on purpose ends all the same."""
    async with serve(Plan()) as emulator, asyncio.timeout(LIMIT):
        host, _, port = emulator.base_url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        prompt = '{"version":"a/b","input":{"prompt":"[[emu:create_then_delay=600]]"}}'
        head = "POST /v1/predictions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer t\r\n"
        writer.write(f"{head}content-length: {len(prompt)}\r\n\r\n{prompt}".encode())
        while not emulator.account.predictions:
            await asyncio.sleep(0)

    assert await reader.read() == b""
    writer.close()


def _length(head: bytes) -> int | None:
    headers: Mapping[str, str] = dict(
        line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:]
    )
    return int(headers["content-length"]) if "content-length" in headers else None


def _unchunk(body: bytes) -> bytes:
    content = b""
    while b"\r\n" in body:
        size, _, body = body.partition(b"\r\n")
        content, body = content + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return content
