"""Starting predictions on a real Cog server: what is bought, what is not, and how often."""

import asyncio
import hashlib
from typing import Any

import pytest

from cogjobs import Mailbox, Opened, a_job, ended
from cogserver import CogServer
from fleek.domain.errors import (
    ConfigurationError,
    OutcomeUnknown,
    ProviderRejected,
    ProviderUnavailable,
)
from fleek.providers.base import Failed, Succeeded
from fleek.providers.cog import CogProvider, connect
from fleek.providers.cog.wire import Wire
from listening import listening
from samples import an_attempt


async def test_the_file_is_the_one_that_the_model_made(
    cog: CogServer, provider: CogProvider, prompt: str
) -> None:
    """Byte for byte."""
    job = a_job(prompt)
    bought = await provider.start(job, an_attempt(job))
    outcome = (await ended(provider, bought.id)).outcome
    assert isinstance(outcome, Succeeded)

    content = b"".join([part async for part in provider.read(job, outcome.outputs[0])])

    assert hashlib.sha256(content).hexdigest() == cog.digests()[-1]


@pytest.mark.parametrize("way", ["held", "by callback"])
async def test_a_busy_server_sells_nothing(
    opened: Opened, cog: CogServer, prompt: str, mailbox: Mailbox, way: str
) -> None:
    """It has no queue: the job is deferred, at no cost."""
    settings = {"held": {}, "by callback": {"PUBLIC_URL": mailbox.url}}[way]
    async with opened(**settings) as provider:
        first, second = a_job(prompt, seconds=30), a_job(f"{prompt} 2")
        bought = await provider.start(first, an_attempt(first))

        with pytest.raises(ProviderUnavailable) as refused:
            await provider.start(second, an_attempt(second))

        await provider.cancel(bought.id)
    assert refused.value.code == "provider_busy"
    assert cog.runs(second.prompt) == 0


async def test_starting_again_while_it_runs_is_the_same_run(
    opened: Opened, cog: CogServer, prompt: str, mailbox: Mailbox
) -> None:
    """So another process may settle an unknown outcome."""
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


async def test_starting_again_what_is_held_is_the_same_run(
    cog: CogServer, provider: CogProvider, prompt: str
) -> None:
    """The connection that is open already brings the answer."""
    job = a_job(prompt, seconds=0.3)
    attempt = an_attempt(job)

    first = await provider.start(job, attempt)
    second = await provider.start(job, attempt)

    assert first.id == second.id
    assert isinstance((await ended(provider, first.id)).outcome, Succeeded)
    assert cog.runs(prompt) == 1


async def test_a_prediction_that_ended_meanwhile_is_not_started_again(
    cog: CogServer, provider: CogProvider, prompt: str
) -> None:
    """Its answer is still there."""
    job = a_job(prompt)
    attempt = an_attempt(job)
    bought = await provider.start(job, attempt)
    first = await ended(provider, bought.id)

    second = await provider.start(job, attempt)

    assert second == first
    assert cog.runs(prompt) == 1


async def test_closing_the_provider_stops_what_it_holds(
    opened: Opened, cog: CogServer, prompt: str
) -> None:
    """Whoever takes over may start another without ever having two."""
    job = a_job(prompt, seconds=60)
    async with opened() as provider:
        await provider.start(job, an_attempt(job))
        await asyncio.to_thread(cog.await_run, prompt)

    await asyncio.to_thread(cog.rest)

    assert (cog.runs(prompt), cog.ended(prompt)) == (1, 1)


async def test_a_start_that_is_given_up_stops_too(
    opened: Opened, cog: CogServer, prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that must end does not wait until the server shows the prediction."""

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
async def test_what_the_model_does_not_take_is_not_sent(
    cog: CogServer, provider: CogProvider, prompt: str, given: dict[str, Any], word: str
) -> None:
    """No path and no private address reaches the server, which would open them."""
    job = a_job(prompt, **given)

    with pytest.raises(ProviderRejected, match=word):
        await provider.start(job, an_attempt(job))

    assert cog.runs(prompt) == 0


async def test_a_picture_in_the_request_reaches_the_model(
    provider: CogProvider, cog: CogServer, prompt: str
) -> None:
    """As a data URI, which leads nowhere."""
    made = a_job(prompt)
    first = await ended(provider, (await provider.start(made, an_attempt(made))).id)
    assert isinstance(first.outcome, Succeeded)
    job = a_job(prompt, image=first.outcome.outputs[0].uri)
    await asyncio.to_thread(cog.rest)  # its answer comes a little before its place is free

    bought = await provider.start(job, an_attempt(job))

    assert isinstance((await ended(provider, bought.id)).outcome, Succeeded)


async def test_another_model_is_refused(provider: CogProvider, prompt: str) -> None:
    """The server has one."""
    job = a_job(prompt, model="someone/else")

    with pytest.raises(ProviderRejected):
        await provider.start(job, an_attempt(job))


async def test_a_model_that_fails_says_why(provider: CogProvider) -> None:
    """And another attempt would fail as well."""
    job = a_job("fail")
    bought = await provider.start(job, an_attempt(job))

    seen = await ended(provider, bought.id)

    assert seen.outcome == Failed(
        "prediction_failed", "ValueError: the model does not like this", retryable=False
    )


async def test_a_server_that_is_not_there_sells_nothing(
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
async def test_callbacks_are_not_sent_in_the_clear_to_other_machines(
    monkeypatch: pytest.MonkeyPatch,
    cog_url: str,
    public_url: str,
    sent: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """The callback address is a secret; without one, connections are held."""
    monkeypatch.setenv("COG_URL", cog_url)
    monkeypatch.setenv("PUBLIC_URL", public_url)

    async with connect() as provider:
        assert isinstance(provider, CogProvider)
        assert (provider._callbacks is not None) is sent


@pytest.mark.parametrize(
    "url", ["nowhere", "ftp://a.example", "http://", "http://a:b@c/", "http://a:x"]
)
async def test_a_wrong_address_is_said_at_start(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """With the name of the setting."""
    monkeypatch.setenv("COG_URL", url)

    with pytest.raises(ConfigurationError, match="COG_URL"):
        async with connect():
            pass


async def test_processes_apart_need_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks at a prediction is not who holds its connection."""
    monkeypatch.setenv("COG_URL", "http://127.0.0.1:5000")
    monkeypatch.setenv("DISPATCH", "celery")

    with pytest.raises(ConfigurationError, match="PUBLIC_URL"):
        async with connect():
            pass


async def test_a_server_that_dies_in_the_middle_leaves_it_open(
    opened: Opened, cog: CogServer, prompt: str
) -> None:
    """Something was sent: it may run."""

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
