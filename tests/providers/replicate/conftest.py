"""An emulator on loopback, a provider that talks to it, and servers that break HTTP itself."""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

import samples
from fleek.domain.attempt import Attempt
from fleek.domain.job import Job, ModelName
from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve
from fleek.outbound import AllowedHost, Policy, open_client
from fleek.providers.download import Limits
from fleek.providers.replicate import ReplicateSettings
from fleek.providers.replicate.api import Api, Times
from fleek.providers.replicate.provider import AccountConfig, ReplicateProvider
from listening import Visit, listening

QUICK = Limits()


@pytest.fixture
async def emulator() -> AsyncGenerator[Emulator]:
    """Run an emulator that is quick and does nothing wrong unless told to."""
    async with serve(Plan(queue_seconds=0, predict_seconds=0)) as emulator:
        yield emulator


class Ticks:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return the seconds that have passed."""
        return self.seconds


@pytest.fixture
def ticks() -> Ticks:
    """Return a clock that stands still until it is told to move."""
    return Ticks()


@dataclass
class Shop:
    """Opens providers; all are closed with the test."""

    stack: AsyncExitStack
    url: str
    tls: ssl.SSLContext

    def open(
        self,
        url: str | None = None,
        *,
        times: Times | None = None,
        limits: Limits = QUICK,
        callback_base: str | None = None,
        keys: tuple[bytes, ...] = (),
        **clocks: Any,
    ) -> ReplicateProvider:
        """Return a provider that talks to `url`, or else to the emulator."""
        api = Api(url or self.url, "r8_test", times=times, tls=self.tls)
        host = httpx2.URL(url or self.url)
        policy = Policy(
            named=(AllowedHost(host.host, host.port or 80, plain=True),),
            patterns=(),
            setting=ReplicateSettings(replicate_api_token="r8_test").policy.setting,
        )
        terms = AccountConfig(policy=policy, callback_base=callback_base, keys=keys, limits=limits)
        files = open_client(policy, timeout=httpx2.Timeout(60.0), tls=self.tls)
        provider = ReplicateProvider(api, files, terms, **clocks)
        self.stack.push_async_callback(api.close)
        self.stack.push_async_callback(files.aclose)
        self.stack.push_async_callback(provider.schemas.close)
        return provider


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    """Return what all clients here check certificates with; making it takes a while."""
    return ssl.create_default_context()


@pytest.fixture
async def shop(emulator: Emulator, tls: ssl.SSLContext) -> AsyncGenerator[Shop]:
    """Return a maker of providers."""
    async with AsyncExitStack() as stack:
        yield Shop(stack, emulator.api_url, tls)


@pytest.fixture
def provider(shop: Shop) -> ReplicateProvider:
    """Return a provider that talks to the emulator and asks for no callbacks."""
    return shop.open()


@pytest.fixture
async def raw() -> AsyncGenerator[Callable[[Visit], Awaitable[str]]]:
    """Return a starter of servers that do with a connection what they like; gives the address."""
    async with AsyncExitStack() as servers:

        async def start(visit: Visit) -> str:
            return f"{await servers.enter_async_context(listening(visit))}/v1"

        yield start


@pytest.fixture
def job() -> Callable[..., Job]:
    """Return a maker of jobs."""

    def make(prompt: str = "a cat", *, model: str = "a/b", **parameters: Any) -> Job:
        name = ModelName(model)
        return samples.a_job(provider="replicate", model=name, prompt=prompt, input=parameters)

    return make


@pytest.fixture
def attempt() -> Callable[..., Attempt]:
    """Return a maker of intents, written now unless told otherwise.

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
