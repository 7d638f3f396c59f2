"""Looking at predictions on a real Cog server, which forgets whatever has ended."""

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

STRANGER = PredictionId("0" * 32)


async def test_a_look_tells_the_progress_and_starts_nothing(
    opened: Opened,
    cog: CogServer,
    prompt: str,
    mailbox: Mailbox,
    enough: Callable[[str], None],
) -> None:
    """However often one looks, and after the end, too: that would be another run."""
    job = a_job(prompt, seconds=60)
    before = cog.runs()
    async with opened(PUBLIC_URL=mailbox.url) as provider:
        bought = await provider.start(job, an_attempt(job))
        async with asyncio.timeout(SECONDS):
            while (await provider.poll([bought.id]))[bought.id].progress != 0.25:
                await asyncio.sleep(0.02)
            enough(prompt)
            while cog.ended(prompt) == 0:
                await provider.poll([bought.id])
        for _ in range(20):
            await provider.poll([bought.id, STRANGER])

    cog.rest()
    assert (cog.runs(prompt), cog.runs()) == (1, before + 1)


async def test_an_answer_by_callback_is_the_end(
    opened: Opened, cog: CogServer, prompt: str, mailbox: Mailbox
) -> None:
    """It comes to the attempt's own address, and counts as it is."""
    job = a_job(prompt)
    attempt = an_attempt(job)
    async with opened(PUBLIC_URL=mailbox.url) as provider:
        bought = await provider.start(job, attempt)
        async with asyncio.timeout(SECONDS):
            path, headers, body = await mailbox.letters.get()
        told = await provider.callback(headers, body)
        again = await provider.callback(headers, body)

    assert path == f"/webhooks/cog/{attempt.id}.{attempt.nonce}"
    assert told == again
    assert told.final
    assert told.prediction.id == bought.id
    assert isinstance(told.prediction.outcome, Succeeded)
    assert told.prediction.metrics["predict_time"] >= 0
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
        json.dumps({"id": STRANGER, "status": 7}).encode(),
        json.dumps({"id": [STRANGER], "status": "succeeded"}).encode(),
    ],
    ids=range(9),
)
async def test_what_is_no_answer_is_rejected(provider: CogProvider, body: bytes) -> None:
    """Anybody can post to a callback address."""
    with pytest.raises(CallbackRejected):
        await provider.callback({}, body)


@pytest.mark.parametrize("given", [None, "Bearer other", "Bearer sésame", "sesame"])
async def test_a_callback_without_the_servers_token_is_rejected(
    opened: Opened, given: str | None
) -> None:
    """If the server was given one."""
    body = json.dumps({"id": STRANGER, "status": "succeeded", "output": "a"}).encode()
    headers = {} if given is None else {"Authorization": given}
    async with opened(COG_WEBHOOK_TOKEN="sesame") as provider:
        await provider.callback({"Authorization": "Bearer sesame"}, body)

        with pytest.raises(CallbackRejected):
            await provider.callback(headers, body)


async def test_a_prediction_whose_answer_got_lost_has_failed_in_time(
    opened: Opened, cog: CogServer, prompt: str, mailbox: Mailbox
) -> None:
    """It may be bought again: nothing else brings the job to its end."""
    job = a_job(prompt)
    async with opened(PUBLIC_URL=mailbox.url, COG_CALLBACK_SECONDS="0.3") as provider:
        bought = await provider.start(job, an_attempt(job))
        async with asyncio.timeout(SECONDS):
            await mailbox.letters.get()
        await asyncio.to_thread(cog.rest)
        early = (await provider.poll([bought.id]))[bought.id]
        late = await ended(provider, bought.id)

    assert early.outcome is None
    assert isinstance(late.outcome, Failed)
    assert (late.outcome.code, late.outcome.retryable) == ("prediction_lost", True)


async def test_the_attempt_after_a_lost_answer_is_held(
    opened: Opened, prompt: str, mailbox: Mailbox
) -> None:
    """Callbacks that never arrive must not cost every attempt."""
    job = a_job(prompt, retries=1)
    async with opened(PUBLIC_URL=mailbox.url) as provider:
        bought = await provider.start(job, an_attempt(job))

        seen = await ended(provider, bought.id)

    assert isinstance(seen.outcome, Succeeded)
    assert mailbox.letters.empty()


async def test_what_another_process_held_is_lost_with_it(provider: CogProvider) -> None:
    """The server has stopped it, so there is nothing to wait for."""
    seen = (await provider.poll([STRANGER]))[STRANGER]

    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.retryable


async def test_a_cancelled_prediction_ends(
    cog: CogServer, provider: CogProvider, prompt: str
) -> None:
    """At once, and it may be cancelled again."""
    job = a_job(prompt, seconds=60)
    bought = await provider.start(job, an_attempt(job))
    await asyncio.to_thread(cog.await_run, prompt)

    await provider.cancel(bought.id)
    seen = await ended(provider, bought.id)
    await provider.cancel(bought.id)

    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.code == "prediction_cancelled"
    assert cog.ended(prompt) == 1


async def test_a_cancelled_prediction_s_answer_is_not_waited_for(
    opened: Opened, cog: CogServer, prompt: str
) -> None:
    """Nobody wants it any more."""
    job = a_job(prompt, seconds=60)
    async with opened(PUBLIC_URL="http://127.0.0.1:1") as provider:
        bought = await provider.start(job, an_attempt(job))

        outcome = None
        async with asyncio.timeout(SECONDS):
            while outcome is None:
                await provider.cancel(bought.id)  # as the engine does until it has ended
                outcome = (await provider.poll([bought.id]))[bought.id].outcome

    cog.rest()  # the model's own note follows the answer
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
async def test_outputs_come_in_any_shape(
    provider: CogProvider, prompt: str, shape: str, files: int, text: str | None
) -> None:
    """A list, files within an object beside a number, words one by one, nothing."""
    job = a_job(prompt, shape=shape)
    bought = await provider.start(job, an_attempt(job))

    outcome = (await ended(provider, bought.id)).outcome

    assert isinstance(outcome, Succeeded)
    assert len([one for one in outcome.outputs if one.uri]) == files
    assert [one.text for one in outcome.outputs if one.text] == ([text] if text else [])


async def test_a_server_that_is_away_is_asked_again(opened: Opened, unused_tcp_port: int) -> None:
    """Not being seen is not having ended."""
    async with opened(COG_URL=f"http://127.0.0.1:{unused_tcp_port}") as provider:
        for ask in (provider.poll([STRANGER]), provider.cancel(STRANGER)):
            with pytest.raises(ProviderUnavailable):
                await ask


async def test_the_schema_says_what_may_be_asked_for(provider: CogProvider) -> None:
    """So a wrong parameter is refused before the job is accepted."""
    schema = await provider.schema(ModelName("cog/model"))
    provider._clock = lambda: time.monotonic() + 2 * FRESH_SECONDS

    assert set(schema["properties"]) == {"seconds", "shape", "image"}
    assert schema["additionalProperties"] is False
    assert schema is await provider.schema(ModelName("cog/model"))


async def test_other_models_are_not_there(provider: CogProvider) -> None:
    """The server has one, under the name that the operator gave it."""
    with pytest.raises(NotFound, match="cog/model"):
        await provider.schema(ModelName("someone/else"))


async def test_an_output_elsewhere_is_only_fetched_from_public_hosts(
    provider: CogProvider, prompt: str, mailbox: Mailbox
) -> None:
    """A model may be made to answer with any address."""
    codes = {
        f"{mailbox.url}/a.png": "unsafe_output",
        "https://localhost/a.png": "unsafe_output",
        "file:///etc/passwd": "output_unsupported",
        "/a": "output_unsupported",
    }
    for uri, code in codes.items():
        with pytest.raises(Exception, match="the output") as refused:
            _ = [part async for part in provider.read(a_job(prompt), Output(uri=uri))]
        assert refused.value.code == code  # type: ignore[attr-defined]  # every error of ours has one
