"""An emulator on loopback, a provider that uses it, and servers that break HTTP itself."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import samples
from authorities import trusted
from fleek.domain.attempt import Attempt
from fleek.domain.job import Job, ModelName
from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import Client
from fleek.outbound.connections import Connections
from fleek.providers.download import Limits
from fleek.providers.http import WHOLE_SECONDS, authorization, open_api
from fleek.providers.replicate import ReplicateSettings
from fleek.providers.replicate.provider import AccountConfig, ReplicateProvider
from listening import Visit, listening

QUICK = Limits()


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


@dataclass
class ProviderFactory:
    """Open providers, which are closed with the test."""

    stack: AsyncExitStack
    url: str

    def open(
        self,
        url: str | None = None,
        *,
        read: float = 30.0,
        whole: float = WHOLE_SECONDS,
        limits: Limits = QUICK,
        callback_base: str | None = None,
        keys: tuple[bytes, ...] = (),
        **clocks: Any,
    ) -> ReplicateProvider:
        """Return a provider that calls `url`, or else the emulator."""
        url = url or self.url
        token = authorization("r8_test")
        api = open_api(url, headers=token, read=read, whole=whole, tls=trusted())
        policy = Policy(
            named=(AllowedHost.of(url.replace("https", "http")),),
            patterns=(),
            setting=ReplicateSettings(replicate_api_token="r8_test").policy.setting,
        )
        config = AccountConfig(callback_base=callback_base, keys=keys, limits=limits)
        files = Client(policy, Connections(policy, tls=trusted()), read=60.0)
        provider = ReplicateProvider(api, files, config, **clocks)
        self.stack.push_async_callback(api.close)
        self.stack.push_async_callback(files.close)
        self.stack.push_async_callback(provider.schemas.close)
        return provider


@pytest.fixture
async def factory(emulator: Emulator) -> AsyncGenerator[ProviderFactory]:
    """Return a factory of providers."""
    async with AsyncExitStack() as stack:
        yield ProviderFactory(stack, emulator.api_url)


@pytest.fixture
def provider(factory: ProviderFactory) -> ReplicateProvider:
    """Return a provider that uses the emulator, without callbacks."""
    return factory.open()


@pytest.fixture
async def raw() -> AsyncGenerator[Callable[[Visit], Awaitable[str]]]:
    """Return a function that starts a server with this handler and returns its address."""
    async with AsyncExitStack() as servers:

        async def start(visit: Visit) -> str:
            return f"{await servers.enter_async_context(listening(visit))}/v1"

        yield start


@pytest.fixture
def job() -> Callable[..., Job]:
    """Return a factory of jobs."""

    def make(prompt: str = "a cat", *, model: str = "a/b", **parameters: Any) -> Job:
        name = ModelName(model)
        return samples.a_job(provider="replicate", model=name, prompt=prompt, input=parameters)

    return make


@pytest.fixture
def attempt() -> Callable[..., Attempt]:
    """Return a factory of intents, written `age` seconds ago.

    `there`: how far ahead the provider's clock was, if it was known.
    """

    def make(
        job: Job, *, age: float = 0, timeout: float = 3600, there: float | None = None
    ) -> Attempt:
        written = datetime.now(UTC) - timedelta(seconds=age)
        return samples.an_attempt(
            job,
            submitted_at=written,
            provider_time=None if there is None else written + timedelta(seconds=there),
            timeout=timedelta(seconds=timeout),
        )

    return make
