"""Starting predictions on a real Cog server: which runs exist after each case."""

import asyncio
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cogjobs import Mailbox, Opened, a_job, ended
from cogserver import CogServer
from fleek.domain.errors import (
    ConfigurationError,
    OutcomeUnknown,
    ProviderRejected,
    ProviderUnavailable,
)
from fleek.providers.base import Failed, InputFile, Succeeded
from fleek.providers.cog import CogProvider, connect
from fleek.providers.cog.wire import Wire
from listening import listening
from samples import an_attempt


async def test_the_output_is_the_file_that_the_model_wrote(
    cog: CogServer, provider: CogProvider, prompt: str
) -> None:
    """Byte for byte."""
    job = a_job(prompt)
    running = await provider.start(job, an_attempt(job))
    outcome = (await ended(provider, running.id)).outcome
    assert isinstance(outcome, Succeeded)

    content = b"".join([part async for part in provider.read(job, outcome.outputs[0])])

    assert hashlib.sha256(content).hexdigest() == cog.digests()[-1]


@pytest.mark.parametrize("way", ["held", "by callback"])
async def test_a_busy_server_starts_nothing(
    opened: Opened, cog: CogServer, prompt: str, mailbox: Mailbox, way: str
) -> None:
    """Cog has no queue: the job is deferred, at no cost."""
    settings = {"held": {}, "by callback": {"PUBLIC_URL": mailbox.url}}[way]
    async with opened(**settings) as provider:
        first, second = a_job(prompt, seconds=30), a_job(f"{prompt} 2")
        running = await provider.start(first, an_attempt(first))

        with pytest.raises(ProviderUnavailable) as refused:
            await provider.start(second, an_attempt(second))

        await provider.cancel(running.id)
    assert refused.value.code == "provider_busy"
    assert cog.runs(second.prompt) == 0


async def test_repeating_a_start_while_it_runs_is_one_run(
    opened: Opened, cog: CogServer, prompt: str, mailbox: Mailbox
) -> None:
    """Another process can reconcile an unknown outcome."""
    job = a_job(prompt, seconds=30)
    attempt = an_attempt(job)
    async with opened(PUBLIC_URL=mailbox.url) as one, opened() as other:
        first = await one.start(job, attempt)
        second = await other.start(job, attempt)
        third = await one.start(job, attempt)
        await asyncio.to_thread(cog.await_run, prompt)
        await one.cancel(first.id)

    cog.rest()
    assert first.id == second.id == third.id
    assert cog.runs(prompt) == 1


async def test_repeating_a_start_with_an_open_connection_is_one_run(
    cog: CogServer, provider: CogProvider, prompt: str
) -> None:
    """The open connection brings the answer."""
    job = a_job(prompt, seconds=0.3)
    attempt = an_attempt(job)

    first = await provider.start(job, attempt)
    second = await provider.start(job, attempt)

    assert first.id == second.id
    assert isinstance((await ended(provider, first.id)).outcome, Succeeded)
    assert cog.runs(prompt) == 1


async def test_repeating_a_start_after_its_end_is_one_run(
    cog: CogServer, provider: CogProvider, prompt: str
) -> None:
    """The answer is still cached."""
    job = a_job(prompt)
    attempt = an_attempt(job)
    running = await provider.start(job, attempt)
    first = await ended(provider, running.id)

    second = await provider.start(job, attempt)

    assert second == first
    assert cog.runs(prompt) == 1


async def test_closing_the_provider_stops_its_runs(
    opened: Opened, cog: CogServer, prompt: str
) -> None:
    """Another worker can start the job again without two runs at once."""
    job = a_job(prompt, seconds=60)
    async with opened() as provider:
        await provider.start(job, an_attempt(job))
        await asyncio.to_thread(cog.await_run, prompt)

    await asyncio.to_thread(cog.rest)

    assert (cog.runs(prompt), cog.ended(prompt)) == (1, 1)


async def test_an_aborted_start_stops_its_run(
    opened: Opened, cog: CogServer, prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shutdown does not wait until the server reports the prediction."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    job = a_job(prompt, seconds=60)
    async with opened() as provider:
        await provider.schema(provider.default_model)
        monkeypatch.setattr(Wire, "poll", never)
        starting = asyncio.create_task(provider.start(job, an_attempt(job)))
        await asyncio.to_thread(cog.await_run, prompt)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

        await asyncio.to_thread(cog.rest)

    assert starting.cancelled()
    assert (cog.runs(prompt), cog.ended(prompt)) == (1, 1)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"seconds": 61}, "seconds"),
        ({"seconds": "long"}, "seconds"),
        ({"shape": "round"}, "shape"),
        ({"colour": "red"}, "colour"),
        ({"image": "/etc/passwd"}, "image"),
        ({"image": "predict.py"}, "image"),
        ({"image": "file:///etc/passwd"}, "image"),
        ({"image": "http://example.com/cat.png"}, "image"),
        ({"image": "https://127.0.0.1/cat.png"}, "image"),
        ({"image": "https://localhost/cat.png"}, "image"),
        ({"image": "data:text/html;base64,AAAA"}, "image"),
    ],
    ids=str,
)
async def test_invalid_parameters_are_not_sent(
    cog: CogServer, provider: CogProvider, prompt: str, given: dict[str, Any], word: str
) -> None:
    """The server would open paths and private addresses."""
    job = a_job(prompt, **given)

    with pytest.raises(ProviderRejected, match=word):
        await provider.start(job, an_attempt(job))

    assert cog.runs(prompt) == 0


async def test_a_picture_in_the_request_reaches_the_model(
    provider: CogProvider, cog: CogServer, prompt: str
) -> None:
    """As a data URI, which opens no address."""
    made = a_job(prompt)
    first = await ended(provider, (await provider.start(made, an_attempt(made))).id)
    assert isinstance(first.outcome, Succeeded)
    job = a_job(prompt, image=first.outcome.outputs[0].uri)
    await asyncio.to_thread(cog.rest)  # the answer comes shortly before the server is free

    running = await provider.start(job, an_attempt(job))

    assert isinstance((await ended(provider, running.id)).outcome, Succeeded)


async def test_another_model_is_refused(provider: CogProvider, prompt: str) -> None:
    """The server has one model."""
    job = a_job(prompt, model="someone/else")

    with pytest.raises(ProviderRejected):
        await provider.start(job, an_attempt(job))


async def test_a_failed_model_reports_its_reason(provider: CogProvider) -> None:
    """Another attempt would fail as well."""
    job = a_job("fail")
    running = await provider.start(job, an_attempt(job))

    seen = await ended(provider, running.id)

    assert seen.outcome == Failed(
        "prediction_failed", "ValueError: the model does not like this", retryable=False
    )


async def test_an_unreachable_server_starts_nothing(
    opened: Opened, unused_tcp_port: int, prompt: str
) -> None:
    """The job waits for it."""
    job = a_job(prompt)
    async with opened(COG_URL=f"http://127.0.0.1:{unused_tcp_port}") as provider:
        with pytest.raises(ProviderUnavailable):
            await provider.start(job, an_attempt(job))


@pytest.mark.parametrize(
    ("cog_url", "public_url", "sent"),
    [
        ("http://192.0.2.1:5000", "http://192.0.2.2:8000", False),
        ("http://cog.example:5000", "http://192.0.2.2:8000", False),
        ("http://cog.example:5000", "https://fleek.example/", True),
        ("http://localhost:5000", "http://127.0.0.1:8000", True),
        ("http://[::1]:5000", "http://127.0.0.1:8000", True),
        ("http://127.0.0.1:5000", "", False),
    ],
)
async def test_callbacks_to_other_machines_need_https(
    monkeypatch: pytest.MonkeyPatch,
    cog_url: str,
    public_url: str,
    sent: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """The callback address is a secret; without callbacks, connections stay open."""
    monkeypatch.setenv("COG_URL", cog_url)
    monkeypatch.setenv("PUBLIC_URL", public_url)

    async with connect() as provider:
        assert isinstance(provider, CogProvider)
        assert (provider._callbacks is not None) is sent


@pytest.mark.parametrize(
    "url", ["nowhere", "ftp://a.example", "http://", "http://a:b@c/", "http://a:x"]
)
async def test_an_invalid_address_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """It names the setting."""
    monkeypatch.setenv("COG_URL", url)

    with pytest.raises(ConfigurationError, match="COG_URL"):
        async with connect():
            pass


async def test_separate_workers_need_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that polls a prediction does not hold its connection."""
    monkeypatch.setenv("COG_URL", "http://127.0.0.1:5000")
    monkeypatch.setenv("DISPATCH", "celery")

    with pytest.raises(ConfigurationError, match="PUBLIC_URL"):
        async with connect():
            pass


async def test_a_connection_cut_during_the_start_is_an_unknown_outcome(
    opened: Opened, cog: CogServer, prompt: str
) -> None:
    """The request was sent: the prediction may run."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"openapi.json" in head:
            body = schema.encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        writer.close()

    schema = (cog.folder / ".cog" / "openapi_schema.json").read_text()
    job = a_job(prompt)
    async with listening(cut) as url:
        for settings in ({}, {"PUBLIC_URL": "http://127.0.0.1:1"}):
            async with opened(COG_URL=url, **settings) as provider:
                with pytest.raises(OutcomeUnknown):
                    await provider.start(job, an_attempt(job))


async def test_a_sound_reaches_the_model(
    provider: CogProvider, prompt: str, tmp_path: Path
) -> None:
    """Its bytes, as it makes text of them."""
    content = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(256)) * 4096
    sound = tmp_path / "voice.wav"
    sound.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    file = InputFile(
        path=sound,
        name="voice.wav",
        sha256=digest,
        size_bytes=len(content),
        content_type="audio/wav",
    )
    job = a_job(prompt, audio=await provider.upload(file))

    started = await provider.start(job, an_attempt(job, inputs={"/audio": {"sha256": digest}}))

    outcome = (await ended(provider, started.id)).outcome
    assert isinstance(outcome, Succeeded)
    assert outcome.outputs[0].text == digest


async def test_a_media_input_becomes_part_of_the_output(
    cog: CogServer, provider: CogProvider, prompt: str, tmp_path: Path
) -> None:
    """Its bytes go with the request, also if they are more than a caller may send in an address."""
    picture = tmp_path / "cat.png"
    Image.effect_noise((1400, 1400), 80).save(picture)
    file = InputFile(
        path=picture,
        name="cat.png",
        sha256="0" * 64,
        size_bytes=picture.stat().st_size,
        content_type="image/png",
    )
    job = a_job(prompt, image=await provider.upload(file))
    attempt = an_attempt(job, inputs={"/image": {"sha256": file.sha256}})

    started = await provider.start(job, attempt)
    outcome = (await ended(provider, started.id)).outcome
    assert isinstance(outcome, Succeeded)
    content = b"".join([part async for part in provider.read(job, outcome.outputs[0])])

    assert file.size_bytes > 1_048_576
    assert hashlib.sha256(content).hexdigest() == cog.digests()[-1]
    with Image.open(io.BytesIO(content)) as made, Image.open(picture) as given:
        assert list(made.tobytes()) == list(given.tobytes())
