"""LiteLLM's proxy: it wraps the errors of the host, may repeat requests, and cannot list or delete videos.

The bodies are those that its version 1.108.7 answered with in front of the emulator; `test_litellm_proxy.py` runs it.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any, Final

import pytest
import structlog

from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.emulator.server import Emulator
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import Client
from fleek.providers.base import Failed, Succeeded
from fleek.providers.http import open_api
from fleek.providers.openai.models import read_models
from fleek.providers.openai.provider import OpenAIProvider
from listening import listening
from providers.openai.conftest import MODELS, Open, Ticks, a_job, an_attempt, contents, start

TAIL: Final = (
    "\n\nLiteLLM: model group 'm' failed with the error above. No fallback was attempted."
)
WRAPPED: Final = {
    "unpaid image": (
        429,
        "litellm.RateLimitError: RateLimitError: OpenAIException - You exceeded your current quota, please check your plan and billing details.",
        "provider_payment_required",
    ),
    "unpaid edit": (
        429,
        'litellm.BadRequestError: OpenAIException - {"error":{"message":"No credit","type":"invalid_request_error","param":null,"code":"insufficient_quota"}}',
        "provider_payment_required",
    ),
    "flagged image": (
        400,
        "litellm.BadRequestError: OpenAIException - Your request was rejected by the safety system.",
        "content_flagged",
    ),
    "flagged edit": (
        400,
        'litellm.BadRequestError: OpenAIException - {"error":{"message":"No","code":"moderation_blocked"}}',
        "content_flagged",
    ),
    "refused": (
        400,
        "litellm.BadRequestError: OpenAIException - - input: refused\n",
        "provider_bad_request",
    ),
    "wrong key of the host": (
        401,
        "litellm.AuthenticationError: AuthenticationError: OpenAIException - You did not pass a valid authentication token",
        "provider_unauthorized",
    ),
}
LOST: Final = {
    "no response": "litellm.APIConnectionError: APIConnectionError: OpenAIException - Connection error.",
    "half a response": "litellm.APIConnectionError: APIConnectionError: OpenAIException - Unterminated string starting at: line 1 column 65 (char 64)",
    "an error": "litellm.InternalServerError: InternalServerError: OpenAIException - An internal error occurred. Please try again.",
}
COOLING: Final = (
    "No deployments available for selected model, Try again in 5 seconds. All deployments for "
    "selected model are in cooldown. Passed model=m. pre-call-checks=False, cooldown_list=['0d']"
)


class Proxy:
    """A host that gives one answer to everything, and keeps what it was sent."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"
        self.headers: dict[str, str] = {}
        self.requests: list[str] = []

    def fail(self, status: int, message: str, **headers: str) -> None:
        """Answer with an error in LiteLLM's form."""
        error = {"message": message, "type": "x", "param": None, "code": str(status)}
        self.status, self.body = status, json.dumps({"error": error}).encode()
        self.headers = {name.replace("__", "-"): value for name, value in headers.items()}

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection with one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        await reader.readexactly(int(length or 0))
        self.requests.append(head)
        fields = {"content-type": "application/json", "connection": "close", **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        sized = f"content-length: {len(self.body)}\r\n\r\n"
        writer.write(f"HTTP/1.1 {self.status} Answer\r\n{lines}{sized}".encode() + self.body)
        await writer.drain()


@pytest.fixture
def proxy() -> Proxy:
    """Return a proxy; a test says what it answers."""
    return Proxy()


@pytest.fixture
async def open_behind(proxy: Proxy) -> AsyncGenerator[Open]:
    """Yield a function that opens a provider behind the proxy."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(listening(proxy.visit)) + "/v1"
        api = open_api(url)
        files = Client(Policy(named=(AllowedHost.of(url),)))
        for closing in (api, files):
            stack.push_async_callback(closing.close)
        models = read_models(MODELS)
        yield partial(
            OpenAIProvider, api, files, files, base_url=url, models=models, voice="alloy"
        )


@pytest.fixture
def behind(open_behind: Open) -> OpenAIProvider:
    """Return a provider of a paid account behind the proxy."""
    return open_behind()


@pytest.fixture
def litellm(emulator: Emulator) -> Emulator:
    """Give the emulator the behaviour of LiteLLM's own routes."""
    emulator.replan(openai_server="litellm")
    return emulator


@pytest.mark.parametrize("seen", WRAPPED)
async def test_the_hosts_error_is_read_from_the_sentence(
    behind: OpenAIProvider, proxy: Proxy, seen: str
) -> None:
    """Its code is lost for images, and a part of the text for edits and videos."""
    status, message, code = WRAPPED[seen]
    proxy.fail(status, message + TAIL)

    with pytest.raises((ProviderRejected, ProviderUnavailable)) as caught:
        await start(behind, a_job())

    assert caught.value.code == code


@pytest.mark.parametrize("seen", LOST)
async def test_a_response_that_the_proxy_lost_may_have_been_paid_for(
    behind: OpenAIProvider, proxy: Proxy, seen: str
) -> None:
    """It is a 500 with a readable body, whatever happened to the host's response."""
    proxy.fail(500, LOST[seen] + TAIL)

    with pytest.raises(OutcomeUnknown):
        await start(behind, a_job())


@pytest.mark.parametrize("model", ["gpt-image-2.5-flare", "tts-1", "sora-2"])
async def test_the_proxy_is_asked_to_send_a_request_once(
    behind: OpenAIProvider, proxy: Proxy, model: str
) -> None:
    """By default it repeats what failed, although the host may have been paid for it."""
    proxy.fail(400, "no")

    with pytest.raises(ProviderRejected):
        await start(behind, a_job(model=model))

    assert ["x-litellm-num-retries: 0\r\n" in head for head in proxy.requests] == [True]


@pytest.mark.parametrize(
    ("message", "headers", "seconds"),
    [
        ("litellm.RateLimitError: throttled", {"llm_provider-retry-after-ms": "7000"}, 7),
        (COOLING, {}, 5),
    ],
)
async def test_waiting_times_are_found(
    behind: OpenAIProvider, proxy: Proxy, message: str, headers: dict[str, str], seconds: int
) -> None:
    """Those of the host have another name, and those of the proxy are in its sentence alone."""
    proxy.fail(429, message, **headers)

    with pytest.raises(ProviderUnavailable) as caught:
        await start(behind, a_job())

    assert caught.value.retry_after == timedelta(seconds=seconds)


@pytest.mark.parametrize("passes_through", [True, False])
async def test_a_gateway_that_repeats_requests_is_logged(
    behind: OpenAIProvider, proxy: Proxy, *, passes_through: bool
) -> None:
    """Its own routes have a client that sends images again whatever it is told; its pass-through does not."""
    proxy.body = b'{"data": [{"b64_json": "aGk="}]}'
    proxy.headers = {} if passes_through else {"x-litellm-version": "1.108.7"}

    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            await start(behind, a_job())

    warned = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert warned == ([] if passes_through else ["gateway_may_repeat_requests"])


async def test_a_video_has_an_id_of_the_proxy(provider: OpenAIProvider, litellm: Emulator) -> None:
    """Longer than the host's, and with characters of base64."""
    job = a_job(model="sora-2")
    video = await start(provider, job)

    seen = (await provider.poll([video.id]))[video.id]

    assert video.id.startswith("video_")
    assert isinstance(seen.outcome, Succeeded)
    assert all(await contents(provider, job, seen.outcome))
    assert len(litellm.account.predictions) == 1


async def test_many_videos_are_read_one_by_one(
    provider: OpenAIProvider, litellm: Emulator
) -> None:
    """The list is refused."""
    ids = [(await start(provider, a_job(model="sora-2"))).id for _ in range(6)]

    seen = await provider.poll(ids)

    assert {key for key, video in seen.items() if video.outcome} == set(ids)
    assert len(litellm.account.predictions) == 6


@pytest.mark.usefixtures("litellm")
async def test_a_video_that_cannot_be_stopped_runs_on(provider: OpenAIProvider) -> None:
    """Its end is seen by polls, and until then it counts as running."""
    video = await start(provider, a_job("[[emu:predict=600]] a cat", model="sora-2"))

    assert await provider.cancel(video.id) is None
    assert (await provider.poll([video.id]))[video.id].outcome is None


@pytest.mark.parametrize("repeats", [True, False])
async def test_a_lost_video_is_not_searched_for_ever(
    open_openai: Open, litellm: Emulator, ticks: Ticks, *, repeats: bool
) -> None:
    """Once it has had no list for a while, the job ends instead of waiting for its deadline."""
    provider = open_openai(repeats=repeats)
    job = a_job("[[emu:create_then_drop]] a cat", model="sora-2")
    attempt = an_attempt(job)
    with pytest.raises(OutcomeUnknown):
        await provider.start(job, attempt)

    first = await provider.find(job, attempt, now=attempt.submitted_at)
    ticks.seconds += 60
    found = await provider.find(job, attempt, now=attempt.submitted_at)

    assert (first.complete, first.wiped) == (False, False), "it may be back in a moment"
    assert (found.complete, found.wiped, found.candidates) == (True, not repeats, ())
    assert len(litellm.account.predictions) == 1


async def test_a_page_that_is_no_answer_of_the_api_says_nothing_about_the_list(
    behind: OpenAIProvider, proxy: Proxy
) -> None:
    """A gateway that has just lost its server answers 404, too, and can later."""
    proxy.status, proxy.body = 404, b"<h1>not here</h1>"
    job = a_job(model="sora-2")
    attempt = an_attempt(job)

    with pytest.raises(ProviderUnavailable):
        await behind.find(job, attempt, now=attempt.submitted_at)


@pytest.mark.parametrize("repeats", [True, False])
async def test_a_failure_in_plain_text_is_that_of_the_server(
    open_behind: Open, proxy: Proxy, *, repeats: bool
) -> None:
    """SGLang-Diffusion 0.5.23 answers so when a run fails: on a server of one's own, it used up an attempt."""
    proxy.status, proxy.body = 500, b"Internal Server Error"
    proxy.headers = {"content-type": "text/plain; charset=utf-8"}
    provider = open_behind(repeats=repeats)

    if not repeats:
        with pytest.raises(OutcomeUnknown):
            await start(provider, a_job())
    else:
        made: Any = await start(provider, a_job())
        assert isinstance(made.outcome, Failed)
        assert made.outcome.retryable
