"""Unusual responses and broken connections, and what each means for the prediction."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from cogjobs import Opened, a_job, ended
from cogserver import MODEL, CogServer
from fleek.domain.errors import (
    FleekError,
    OutcomeUnknown,
    OutputInterrupted,
    OutputMissing,
    ProviderRejected,
    ProviderUnavailable,
)
from fleek.domain.job import PredictionId
from fleek.domain.media import Output
from fleek.providers.base import Failed, Succeeded
from fleek.providers.cog import wire
from listening import listening
from samples import an_attempt

UNKNOWN_ID = PredictionId("0" * 32)
SCHEMA = (MODEL / ".cog" / "openapi_schema.json").read_bytes()

NOT_READY = (ProviderUnavailable, "provider_not_ready")
AWAY = (ProviderUnavailable, "provider_unavailable")
UNKNOWN = (OutcomeUnknown, "provider_outcome_unknown")
REFUSED = (ProviderRejected, "provider_rejected")

Answer = Callable[[str], bytes]


def reply(status: int, body: bytes = b"{}", *, length: int | None = None) -> bytes:
    """Return a response, whose length may be wrong."""
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status} Any\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def host(answer: Answer) -> AsyncGenerator[str]:
    """Run a server that answers a request line with these bytes and disconnects."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        writer.write(answer(head.partition("\r\n")[0]))
        await writer.drain()
        writer.close()

    async with listening(serve) as url:
        yield url


def puts(status: int, body: bytes = b"{}") -> Answer:
    """Return a handler that answers `PUT` like this, and has a schema."""
    return lambda line: reply(status, body) if line.startswith("PUT") else reply(200, SCHEMA)


@pytest.mark.parametrize(
    ("status", "body", "means"),
    [
        (503, b'{"status":"failed"}', NOT_READY),
        (429, b"", AWAY),
        (500, b"", UNKNOWN),
        (502, b"<html>", UNKNOWN),
        (200, b"<html>", UNKNOWN),
        (202, b"{}", UNKNOWN),
        (202, b'{"id":"11111111111111111111111111111111","status":"starting"}', UNKNOWN),
        (404, b"not here", REFUSED),
        (301, b"", REFUSED),
        (422, b'{"detail":7}', REFUSED),
    ],
    ids=range(10),
)
@pytest.mark.parametrize("public", ["", "http://127.0.0.1:1"], ids=["held", "by callback"])
async def test_each_response_has_its_meaning(
    opened: Opened, status: int, body: bytes, means: tuple[type[FleekError], str], public: str
) -> None:
    """No prediction, refused, or unknown."""
    job = a_job("a cat")
    async with host(puts(status, body)) as url, opened(COG_URL=url, PUBLIC_URL=public) as provider:
        with pytest.raises(FleekError) as raised:
            await provider.start(job, an_attempt(job))

    assert (raised.type, raised.value.code) == means


@pytest.mark.parametrize("body", [b"{}", b"<html>", b"[" * 100_000], ids=range(3))
async def test_a_server_without_a_schema_gets_no_job(opened: Opened, body: bytes) -> None:
    """Parameters could not be checked."""
    job = a_job("a cat")
    async with host(lambda _: reply(503, body)) as url, opened(COG_URL=url) as provider:
        with pytest.raises(ProviderUnavailable, match="schema"):
            await provider.start(job, an_attempt(job))
        with pytest.raises(ProviderUnavailable, match="schema"):
            await provider.poll([UNKNOWN_ID])


@pytest.mark.parametrize("way", ["held", "by callback"])
async def test_a_server_that_has_stopped_starts_nothing(opened: Opened, way: str) -> None:
    """No byte was sent."""
    settings = {"held": {}, "by callback": {"PUBLIC_URL": "http://127.0.0.1:1"}}[way]
    job = a_job("a cat")
    async with host(puts(500)) as url, AsyncExitStack() as stack:
        provider = await stack.enter_async_context(opened(COG_URL=url, **settings))
        await provider.schema(provider.default_model)
        opened_stack = stack.pop_all()
    async with opened_stack:
        with pytest.raises(ProviderUnavailable):
            await provider.start(job, an_attempt(job))


@pytest.mark.parametrize("look", [422, 500])
async def test_a_server_that_never_answers_is_an_unknown_outcome(
    opened: Opened, look: int
) -> None:
    """The prediction may run, and stops when the connection is closed."""
    never = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"PUT") and b"respond-async" not in head:
            await never.wait()
        writer.write(reply(look) if head.startswith(b"PUT") else reply(200, SCHEMA))
        writer.close()

    job = a_job("a cat")
    ticks = count(step=10)
    async with listening(serve) as url:
        async with opened(COG_URL=url) as provider:
            provider.runs._clock = lambda: float(next(ticks))
            with pytest.raises(OutcomeUnknown):
                await provider.start(job, an_attempt(job))
            assert PredictionId(job.id.hex) not in provider.runs.connections
        never.set()


@pytest.mark.parametrize("status", [202, 404, 409, 500])
async def test_an_unusual_response_to_a_poll_is_not_the_end(opened: Opened, status: int) -> None:
    """Only the server's own "not found" is."""
    async with host(puts(status)) as url, opened(COG_URL=url) as provider:
        with pytest.raises(ProviderUnavailable):
            await provider.poll([UNKNOWN_ID])


async def test_a_refused_cancellation_is_retryable(opened: Opened) -> None:
    """The prediction may still run."""
    async with host(lambda _: reply(500)) as url, opened(COG_URL=url) as provider:
        with pytest.raises(ProviderUnavailable):
            await provider.cancel(UNKNOWN_ID)


async def test_an_answer_that_is_too_large_fails(
    opened: Opened, cog: CogServer, prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another attempt would give an answer of that size, too."""
    monkeypatch.setattr(wire, "ANSWER_BYTES", 100_000)
    job = a_job(prompt, shape="large", seconds=0.2)
    async with opened() as provider:
        started = await provider.start(job, an_attempt(job))
        outcome = (await ended(provider, started.id)).outcome

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.retryable) == ("output_too_large", False)
    assert cog.runs(prompt) == 1


async def test_uploaded_outputs_are_fetched_from_the_configured_address(
    opened: Opened, tmp_path: Path, prompt: str
) -> None:
    """The server's upload address may be private."""
    uploads: dict[str, bytes] = {}

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        method, path, _ = head.partition("\r\n")[0].split(" ")
        if method == "put":
            size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            uploads[path] = await reader.readexactly(size)
            location = f"location: {base}{path}\r\n"
            head = (
                f"HTTP/1.1 201 Created\r\n{location}content-length: 0\r\nconnection: close\r\n\r\n"
            )
            writer.write(head.encode())
        else:
            writer.write(reply(200, uploads[path]))
        await writer.drain()
        writer.close()

    async with listening(store) as base:
        cog = CogServer(tmp_path / "cog")
        await asyncio.to_thread(cog.start, "--upload-url", f"{base}/files/")
        try:
            async with opened(COG_URL=cog.url, COG_UPLOAD_URL=base) as provider:
                job = a_job(prompt)
                started = await provider.start(job, an_attempt(job))
                outcome = (await ended(provider, started.id)).outcome
                assert isinstance(outcome, Succeeded)
                parts = [part async for part in provider.read(job, outcome.outputs[0])]
        finally:
            cog.stop()

    assert str(outcome.outputs[0].uri).startswith(base)
    assert hashlib.sha256(b"".join(parts)).hexdigest() == cog.digests()[-1]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(200, b"half", length=8), OutputInterrupted),
        (reply(200, b"", length=8), OutputInterrupted),
        (reply(503), ProviderUnavailable),
        (reply(404), OutputMissing),
        (reply(403), OutputMissing),
    ],
    ids=["cut", "nothing", "busy", "gone", "forbidden"],
)
async def test_a_failed_fetch_of_an_upload_has_its_error(
    opened: Opened, answer: bytes, kind: type[FleekError]
) -> None:
    """Some errors are retried, others are final."""
    async with host(lambda _: answer) as url, opened(COG_UPLOAD_URL=url) as provider:
        with pytest.raises(kind):
            _ = [part async for part in provider.read(a_job("a cat"), Output(uri=f"{url}/a.png"))]


async def test_the_cog_token_is_sent(opened: Opened) -> None:
    """A proxy may require it."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply(200, SCHEMA))

    async with listening(serve) as url, opened(COG_URL=url, COG_TOKEN="sesame") as provider:
        await provider.schema(provider.default_model)

    assert b"authorization: bearer sesame\r\n" in received[0].lower()
