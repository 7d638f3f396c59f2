"""An emulator on loopback, and a provider that uses it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
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
from fleek.providers.fal.files import FileStorage
from fleek.providers.fal.provider import AccountConfig, FalProvider
from fleek.providers.http import Answer, authorization, open_api

MODEL = "fal-ai/flux/dev"


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


Open = Callable[..., FalProvider]


@pytest.fixture
async def open_fal(emulator: Emulator, ticks: Ticks) -> AsyncGenerator[Open]:
    """Yield a function that opens a provider on the emulator."""
    async with AsyncExitStack() as stack:

        def opened(*, jwks: str | None = None, **config: Any) -> FalProvider:
            url, tls = emulator.fal_url, tls_context()
            policy = Policy(patterns=(), named=(AllowedHost.of(url),))
            api = open_api(url, headers=authorization("id:secret", "Key"), tls=tls)
            keys = open_api(jwks or emulator.fal_jwks_url, tls=tls)
            files = Client(policy, Connections(policy, tls=tls))
            cdn = open_api(url, tls=tls)
            for closing in (api, keys, files, cdn):
                stack.push_async_callback(closing.close)
            account = AccountConfig(models=(MODEL,), **config)
            storage = FileStorage(api, cdn, account.object_lifetime)
            return FalProvider(api, keys, files, storage, account, clock=ticks)

        yield opened


@pytest.fixture
def provider(open_fal: Open) -> FalProvider:
    """Return a provider that requests callbacks."""
    return open_fal(callback_base="http://127.0.0.1:9/webhooks/fal")


class FixedApi:
    """An API that gives fixed responses in turn, the last one again and again."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.calls: list[tuple[str, str, Any]] = []  # method, path, headers

    time = None

    async def call(
        self, method: str, path: str, content: bytes = b"", headers: Any = None, **_: Any
    ) -> Answer:
        """Return the next response."""
        del content
        self.calls.append((method, path, headers))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def get(self, path: str, *_: Any, **__: Any) -> Answer:
        """Return the next response."""
        return await self.call("GET", path)

    async def post(self, path: str, content: bytes, headers: Any = None) -> Answer:
        """Return the next response."""
        return await self.call("POST", path, content, headers)


def with_api(api: FixedApi, **options: Any) -> FalProvider:
    """Return a provider with fixed responses, to requests for keys, too."""
    config = AccountConfig(
        models=(MODEL,),
        callback_base="https://here.example/webhooks/fal",
        object_lifetime=timedelta(hours=1),
    )
    fake: Any = api
    storage = FileStorage(fake, fake)
    return FalProvider(fake, fake, Client(Policy(patterns=())), storage, config, **options)


def a_job(prompt: str = "a cat", model: str = MODEL, **parameters: Any) -> Job:
    """Return a job for a model of this provider."""
    return samples.a_job(provider="fal", model=ModelName(model), prompt=prompt, input=parameters)


def an_attempt(job: Job, **fields: Any) -> Attempt:
    """Return an intent to start this job's prediction, written now."""
    given = {"submitted_at": datetime.now(UTC), "timeout": timedelta(minutes=10), **fields}
    return samples.an_attempt(job, **given)


async def start(provider: FalProvider, job: Job) -> Any:
    """Start the prediction of a new attempt."""
    return await provider.start(job, an_attempt(job))


async def polled(provider: FalProvider, created: Any) -> Any:
    """Return the state of a prediction, or None if it is not known now."""
    return (await provider.poll([created.id])).get(created.id)
