"""Polling predictions on a real Cog server, which forgets ended ones."""

import asyncio
import json
import time
from collections.abc import Callable

import pytest

from cogjobs import SECONDS, Mailbox, Opened, a_job, ended
from cogserver import CogServer
from fleek.domain.errors import CallbackRejected, NotFound, ProviderUnavailable
from fleek.domain.job import ModelName, PredictionId
from fleek.domain.media import Output
from fleek.providers.base import Failed, Succeeded
from fleek.providers.cog import CogProvider
from fleek.providers.cog.provider import FRESH_SECONDS
from samples import an_attempt

UNKNOWN_ID = PredictionId("0" * 32)


async def test_poll_reports_progress_and_starts_nothing(
    opened: Opened,
    cog: CogServer,
    prompt: str,
    mailbox: Mailbox,
    enough: Callable[[str], None],
) -> None:
    """However often, and after the end: a PUT would start another run."""
    job = a_job(prompt, seconds=60)
    before = cog.runs()
    async with opened(PUBLIC_URL=mailbox.url) as provider:
        started = await provider.start(job, an_attempt(job))
        async with asyncio.timeout(SECONDS):
            while (await provider.poll([started.id]))[started.id].progress != 0.25:
                await asyncio.sleep(0.02)
            enough(prompt)
            while cog.ended(prompt) == 0:
                await provider.poll([started.id])
        for _ in range(20):
            await provider.poll([started.id, UNKNOWN_ID])

    cog.rest()
    assert (cog.runs(prompt), cog.runs()) == (1, before + 1)


async def test_a_callback_completes_the_prediction(
    opened: Opened, cog: CogServer, prompt: str, mailbox: Mailbox
) -> None:
    """It is sent to the attempt's own address, and may be repeated."""
    job = a_job(prompt)
    attempt = an_attempt(job)
    async with opened(PUBLIC_URL=mailbox.url) as provider:
        started = await provider.start(job, attempt)
        async with asyncio.timeout(SECONDS):
            path, headers, body = await mailbox.callbacks.get()
        received = await provider.callback(headers, body)
        again = await provider.callback(headers, body)

    assert path == f"/webhooks/cog/{attempt.id}.{attempt.nonce}"
    assert received == again
    assert received.final
    assert received.prediction.id == started.id
    assert isinstance(received.prediction.outcome, Succeeded)
    assert received.prediction.metrics["predict_time"] >= 0
    assert cog.runs(prompt) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        json.dumps({"id": "not-ours", "status": "succeeded"}).encode(),
        json.dumps({"id": UNKNOWN_ID, "status": 7}).encode(),
        json.dumps({"id": [UNKNOWN_ID], "status": "succeeded"}).encode(),
    ],
    ids=range(9),
)
async def test_an_invalid_callback_is_rejected(provider: CogProvider, body: bytes) -> None:
    """Anyone can post to a callback address."""
    with pytest.raises(CallbackRejected):
        await provider.callback({}, body)


@pytest.mark.parametrize("given", [None, "Bearer other", "Bearer sésame", "sesame"])
async def test_a_callback_without_the_servers_token_is_rejected(
    opened: Opened, given: str | None
) -> None:
    """If a token is configured."""
    body = json.dumps({"id": UNKNOWN_ID, "status": "succeeded", "output": "a"}).encode()
    headers = {} if given is None else {"Authorization": given}
    async with opened(COG_WEBHOOK_TOKEN="sesame") as provider:
        await provider.callback({"Authorization": "Bearer sesame"}, body)

        with pytest.raises(CallbackRejected):
            await provider.callback(headers, body)


async def test_a_prediction_with_a_lost_callback_fails_after_a_delay(
    opened: Opened, cog: CogServer, prompt: str, mailbox: Mailbox
) -> None:
    """The failure is retryable, because nothing else would end the job."""
    job = a_job(prompt)
    async with opened(PUBLIC_URL=mailbox.url, COG_CALLBACK_SECONDS="0.3") as provider:
        started = await provider.start(job, an_attempt(job))
        async with asyncio.timeout(SECONDS):
            await mailbox.callbacks.get()
        await asyncio.to_thread(cog.rest)
        early = (await provider.poll([started.id]))[started.id]
        late = await ended(provider, started.id)

    assert early.outcome is None
    assert isinstance(late.outcome, Failed)
    assert (late.outcome.code, late.outcome.retryable) == ("prediction_lost", True)


async def test_the_attempt_after_a_lost_callback_keeps_its_connection(
    opened: Opened, prompt: str, mailbox: Mailbox
) -> None:
    """Otherwise lost callbacks would use up every attempt."""
    job = a_job(prompt, retries=1)
    async with opened(PUBLIC_URL=mailbox.url) as provider:
        started = await provider.start(job, an_attempt(job))

        seen = await ended(provider, started.id)

    assert isinstance(seen.outcome, Succeeded)
    assert mailbox.callbacks.empty()


async def test_a_prediction_of_a_closed_connection_is_lost(provider: CogProvider) -> None:
    """The server has stopped it."""
    seen = (await provider.poll([UNKNOWN_ID]))[UNKNOWN_ID]

    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.retryable


async def test_a_cancelled_prediction_ends(
    cog: CogServer, provider: CogProvider, prompt: str
) -> None:
    """At once, and the cancellation may be repeated."""
    job = a_job(prompt, seconds=60)
    started = await provider.start(job, an_attempt(job))
    await asyncio.to_thread(cog.await_run, prompt)

    await provider.cancel(started.id)
    seen = await ended(provider, started.id)
    await provider.cancel(started.id)

    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.code == "prediction_cancelled"
    assert cog.ended(prompt) == 1


async def test_a_cancelled_prediction_needs_no_callback(
    opened: Opened, cog: CogServer, prompt: str
) -> None:
    """Its outcome is known at once."""
    job = a_job(prompt, seconds=60)
    async with opened(PUBLIC_URL="http://127.0.0.1:1") as provider:
        started = await provider.start(job, an_attempt(job))
        await asyncio.to_thread(cog.await_run, prompt)  # Cog may not hear what comes before

        outcome = None
        async with asyncio.timeout(SECONDS):
            while outcome is None:
                await provider.cancel(started.id)  # as the engine does until it has ended
                outcome = (await provider.poll([started.id]))[started.id].outcome

    cog.rest()  # cancelled, not after the minute that it would have run
    assert isinstance(outcome, Failed)
    assert cog.runs(prompt) == cog.ended(prompt)


@pytest.mark.parametrize(
    ("shape", "files", "text"),
    [
        ("many", 2, None),
        ("nested", 1, '{"files": {"all": [{"output": 0}]}, "seed": 7}'),
        ("text", 0, "A cat."),
        ("nothing", 0, None),
    ],
)
async def test_outputs_of_every_shape_are_collected(
    provider: CogProvider, prompt: str, shape: str, files: int, text: str | None
) -> None:
    """A list, files in an object beside a number, text in parts, nothing."""
    job = a_job(prompt, shape=shape)
    started = await provider.start(job, an_attempt(job))

    outcome = (await ended(provider, started.id)).outcome

    assert isinstance(outcome, Succeeded)
    assert len([one for one in outcome.outputs if one.uri]) == files
    assert [one.text for one in outcome.outputs if one.text] == ([text] if text else [])


async def test_an_unreachable_server_is_a_retryable_error(
    opened: Opened, unused_tcp_port: int
) -> None:
    """The prediction may still run."""
    async with opened(COG_URL=f"http://127.0.0.1:{unused_tcp_port}") as provider:
        for ask in (provider.poll([UNKNOWN_ID]), provider.cancel(UNKNOWN_ID)):
            with pytest.raises(ProviderUnavailable):
                await ask


async def test_the_schema_lists_the_parameters(provider: CogProvider) -> None:
    """Invalid parameters are refused at submission."""
    schema = await provider.schema(ModelName("cog/model"))
    provider._clock = lambda: time.monotonic() + 2 * FRESH_SECONDS

    assert set(schema["properties"]) == {"seconds", "shape", "image", "audio"}
    assert schema["additionalProperties"] is False
    assert schema is await provider.schema(ModelName("cog/model"))


async def test_other_models_are_unknown(provider: CogProvider) -> None:
    """The server has one model, under the configured name."""
    with pytest.raises(NotFound, match="cog/model"):
        await provider.schema(ModelName("someone/else"))


async def test_outputs_at_other_hosts_are_fetched_only_if_public(
    provider: CogProvider, prompt: str, mailbox: Mailbox
) -> None:
    """A model may be made to return any address."""
    codes = {
        f"{mailbox.url}/a.png": "unsafe_output",
        "https://localhost/a.png": "unsafe_output",
        "file:///etc/passwd": "output_unsupported",
        "/a": "output_unsupported",
    }
    for uri, code in codes.items():
        with pytest.raises(Exception, match="the output") as refused:
            _ = [part async for part in provider.read(a_job(prompt), Output(uri=uri))]
        assert refused.value.code == code  # type: ignore[attr-defined]  # errors of Fleek have one
