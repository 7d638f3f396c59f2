"""An emulator on loopback, and a provider that uses it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

import samples
from fleek.domain.attempt import Attempt
from fleek.domain.job import Job, ModelName
from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import Client
from fleek.outbound.connections import Connections, tls_context
from fleek.providers.http import authorization, open_api
from fleek.providers.openai.models import read_models
from fleek.providers.openai.provider import OpenAIProvider

MODELS = ("image:gpt-image-2.5-flare", "image:acme/painter", "speech:tts-1", "video:sora-2")


@pytest.fixture
async def emulator() -> AsyncGenerator[Emulator]:
    """Run a fast emulator without faults; tests add them."""
    async with serve(Plan(queue_seconds=0, predict_seconds=0)) as emulator:
        yield emulator


class Ticks:
    """Monotonic seconds that pass only by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return the seconds that have passed."""
        return self.seconds


@pytest.fixture
def ticks() -> Ticks:
    """Return a clock that stands still until it is moved."""
    return Ticks()


Open = Callable[..., OpenAIProvider]


@pytest.fixture
async def open_openai(emulator: Emulator, ticks: Ticks) -> AsyncGenerator[Open]:
    """Yield a function that opens a provider on the emulator."""
    async with AsyncExitStack() as stack:

        def opened(**options: Any) -> OpenAIProvider:
            url, tls, key = emulator.openai_url, tls_context(), authorization("sk-test")
            policy = Policy(patterns=(), named=(AllowedHost.of(url),))
            api = open_api(url, headers=key, tls=tls)
            content = Client(policy, Connections(policy, tls=tls), headers=key)
            files = Client(policy, Connections(policy, tls=tls))
            for closing in (api, content, files):
                stack.push_async_callback(closing.close)
            models = read_models(MODELS)
            return OpenAIProvider(
                api, content, files, base_url=url, models=models, clock=ticks, **options
            )

        yield opened


@pytest.fixture
def provider(open_openai: Open) -> OpenAIProvider:
    """Return a provider of a paid account."""
    return open_openai(voice="alloy")


def a_job(prompt: str = "a cat", model: str = "gpt-image-2.5-flare", **parameters: Any) -> Job:
    """Return a job for a model of this provider."""
    return samples.a_job(
        provider="openai", model=ModelName(model), prompt=prompt, input=parameters
    )


def an_attempt(job: Job, **fields: Any) -> Attempt:
    """Return an intent to start this job's prediction, written now."""
    return samples.an_attempt(job, **{"submitted_at": datetime.now(UTC), **fields})


def with_files(job: Job) -> Attempt:
    """Return an intent whose job has ``data:`` URIs as files, in place of references."""
    values = {
        f"/{name}{suffix}": text
        for name, value in job.input.items()
        for suffix, text in (
            [(f"/{n}", item) for n, item in enumerate(value)]
            if isinstance(value, list)
            else [("", value)]
        )
    }
    sent = {pointer for pointer, text in values.items() if str(text).startswith("data:")}
    return an_attempt(job, inputs={pointer: {"sha256": "0" * 64} for pointer in sent})


async def start(provider: OpenAIProvider, job: Job) -> Any:
    """Start the prediction of a new attempt."""
    return await provider.start(job, an_attempt(job))


async def contents(provider: OpenAIProvider, job: Job, outcome: Any) -> list[bytes]:
    """Return the bytes of each output."""
    return [
        b"".join([chunk async for chunk in provider.read(job, output)])
        for output in outcome.outputs
    ]
