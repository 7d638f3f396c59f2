"""Images and speech: one request, whose response is the result."""

from datetime import timedelta
from typing import Any

import pytest

from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.emulator.media import render
from fleek.emulator.server import Emulator
from fleek.providers.base import Failed, Succeeded
from fleek.providers.openai import results
from fleek.providers.openai.provider import LOST_SECONDS, OpenAIProvider
from fleek.providers.openai.results import KEPT_SECONDS
from providers.openai.conftest import Open, Ticks, a_job, an_attempt, contents, start


async def test_images_are_the_response(provider: OpenAIProvider, emulator: Emulator) -> None:
    """All images in their order, with the tokens that they cost."""
    job = a_job(n=2, output_format="webp")

    made = await start(provider, job)

    (recorded,) = emulator.account.predictions
    expected = [render(f"{recorded.id}/{n}", "webp") for n in range(2)]
    assert await contents(provider, job, made.outcome) == expected
    assert made.metrics["output_tokens"] == 2000


async def test_speech_is_the_response(provider: OpenAIProvider, emulator: Emulator) -> None:
    """With the voice of the settings, unless the request names one."""
    job = a_job("Good morning", model="tts-1", speed=1.5)

    made = await start(provider, job)

    (recorded,) = emulator.account.predictions
    assert await contents(provider, job, made.outcome) == [render(f"{recorded.id}/0", "mp3")]
    assert (recorded.input["input"], recorded.input["voice"]) == ("Good morning", "alloy")


@pytest.mark.parametrize("server", ["openai", "vllm", "sglang"])
async def test_bytes_are_requested_instead_of_addresses(
    provider: OpenAIProvider, emulator: Emulator, server: str
) -> None:
    """GPT Image models refuse `response_format`; SGLang without it needs a place for files."""
    emulator.replan(openai_server=server)
    job = a_job(model="gpt-image-2.5-flare" if server == "openai" else "acme/painter")

    made = await start(provider, job)

    assert isinstance(made.outcome, Succeeded)
    assert str(made.outcome.outputs[0].uri).startswith("data:image/png;base64,")


async def test_an_address_is_fetched_without_the_key(
    provider: OpenAIProvider, emulator: Emulator
) -> None:
    """A host of files must not receive it."""
    emulator.replan(openai_server="sglang")
    job = a_job(model="acme/painter", response_format="url")

    made = await start(provider, job)

    assert all(await contents(provider, job, made.outcome))
    assert [row["authorization"] for row in emulator.ledger.rows("download")] == [False]


@pytest.mark.parametrize("model", ["gpt-image-2.5-flare", "tts-1"])
@pytest.mark.parametrize(
    "fault",
    [
        *("create_then_drop", "create_then_reset", "create_then_5xx", "create_cut_headers"),
        *("create_cut_body", "create_html", "create_empty", "create_5xx=502", "create_drop"),
        "create_redirect",
    ],
)
async def test_a_lost_response_may_have_been_paid_for(
    provider: OpenAIProvider, emulator: Emulator, fault: str, model: str
) -> None:
    """One request is sent, with or without a response."""
    with pytest.raises(OutcomeUnknown):
        await start(provider, a_job(f"a cat [[emu:{fault}]]", model=model))

    assert len(emulator.ledger.rows("request")) == 1


async def test_a_response_after_the_attempt_timeout_is_lost(
    provider: OpenAIProvider,
) -> None:
    """A connection without a response must not block a worker forever."""
    job = a_job("a cat [[emu:predict=600]]")
    attempt = an_attempt(job, timeout=timedelta(seconds=0.2))

    with pytest.raises(OutcomeUnknown):
        await provider.start(job, attempt)


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ("create_429=3", ProviderUnavailable, "provider_rate_limited"),
        ("create_402", ProviderUnavailable, "provider_payment_required"),
        ("create_401", ProviderUnavailable, "provider_unauthorized"),
        ("create_422", ProviderRejected, "provider_bad_request"),
        ("create_403", ProviderRejected, "provider_forbidden"),
        ("nsfw", ProviderRejected, "content_flagged"),
    ],
)
async def test_refusals_cost_nothing(
    provider: OpenAIProvider, fault: str, error: type[Any], code: str
) -> None:
    """Missing credit is a 429 with another code, and the safety system a 400 with its own."""
    with pytest.raises(error) as caught:
        await start(provider, a_job(f"a cat [[emu:{fault}]]"))

    assert caught.value.code == code


async def test_both_forms_of_errors_are_read(provider: OpenAIProvider, emulator: Emulator) -> None:
    """OpenAI has ``error.message``, the other servers ``detail``."""
    emulator.replan(openai_server="vllm")
    with pytest.raises(ProviderRejected, match="b64_json"):
        await start(provider, a_job(model="acme/painter", response_format="url"))

    emulator.replan(openai_server="openai")
    with pytest.raises(ProviderRejected, match="Unknown parameter: 'seed'"):
        await start(provider, a_job(seed=1))


async def test_retry_after_ms_is_respected(provider: OpenAIProvider) -> None:
    """They are more exact than the seconds in the other header."""
    with pytest.raises(ProviderUnavailable) as caught:
        await start(provider, a_job("a cat [[emu:create_429=7]]"))

    assert caught.value.retry_after == timedelta(seconds=7)


async def test_a_result_can_be_read_again_until_it_is_stored(provider: OpenAIProvider) -> None:
    """The engine reads it again if the storage was not available."""
    made = await start(provider, a_job())

    assert await provider.poll([made.id]) == {made.id: made}
    assert await provider.cancel(made.id) == made


async def test_old_results_are_removed_from_the_cache(open_openai: Open, ticks: Ticks) -> None:
    """They are stored already, and would fill the memory."""
    provider = open_openai()
    old, read = await start(provider, a_job()), await start(provider, a_job())
    ticks.seconds += KEPT_SECONDS
    await provider.poll([read.id])
    ticks.seconds += 1

    newest = await start(provider, a_job())

    seen = await provider.poll([old.id, read.id, newest.id])
    assert [seen[key].outcome is None for key in (old.id, read.id, newest.id)] == [
        True,
        False,
        False,
    ]


async def test_the_cache_of_results_is_limited_in_size(
    provider: OpenAIProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest one in any case."""
    monkeypatch.setattr(results, "MOST", 1)

    first, second = await start(provider, a_job()), await start(provider, a_job())

    seen = await provider.poll([first.id, second.id])
    assert (seen[first.id].outcome, seen[second.id]) == (None, second)


@pytest.mark.parametrize("repeats", [True, False])
async def test_a_result_without_a_process_is_lost_after_a_while(
    open_openai: Open, ticks: Ticks, *, repeats: bool
) -> None:
    """Another process may be about to store it; what is paid for is not requested again."""
    made = await start(open_openai(), a_job())
    other = open_openai(repeats=repeats)

    before = (await other.poll([made.id]))[made.id]
    ticks.seconds += LOST_SECONDS
    after = (await other.poll([made.id]))[made.id]

    assert before.outcome is None
    assert isinstance(after.outcome, Failed)
    assert (after.outcome.code, after.outcome.retryable) == ("prediction_lost", repeats)


async def test_a_paid_request_is_not_repeated(
    provider: OpenAIProvider,
) -> None:
    """The search reports that it can never be complete."""
    job = a_job()
    attempt = an_attempt(job)

    found = await provider.find(job, attempt, now=attempt.submitted_at)

    assert (found.wiped, found.candidates) == (True, ())


async def test_on_a_private_server_the_request_is_repeated(open_openai: Open) -> None:
    """Only time is lost."""
    provider = open_openai(repeats=True)
    job = a_job()
    attempt = an_attempt(job)

    found = await provider.find(job, attempt, now=attempt.submitted_at)

    assert (found.wiped, found.complete, found.candidates) == (False, True, ())


async def test_a_reported_retryable_failure_uses_up_an_attempt(
    open_openai: Open, emulator: Emulator
) -> None:
    """Otherwise a request that always fails would be repeated until its deadline."""
    emulator.replan(openai_server="vllm")

    made = await start(open_openai(repeats=True), a_job("[[emu:fail_mid]]", model="acme/painter"))

    assert isinstance(made.outcome, Failed)
    assert made.outcome.retryable
