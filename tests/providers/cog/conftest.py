"""A real Cog server, its provider, and a receiver of its callbacks."""

import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from cogjobs import Mailbox, Opened
from cogserver import CogServer, cog_server
from fleek.providers.cog import CogProvider, connect
from listening import listening


@pytest.fixture(scope="session")
def one_slot(_full_suite: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    """Return a running server that runs one prediction at a time."""
    with cog_server(tmp_path_factory.mktemp("cog")) as server:
        yield server


@pytest.fixture
def cog(one_slot: CogServer) -> Iterator[CogServer]:
    """Return the server while nothing runs there."""
    yield one_slot
    one_slot.rest()


@pytest.fixture
def opened(cog: CogServer, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Return a function that opens a provider for the server, with optional settings."""

    @asynccontextmanager
    async def open_one(**settings: str) -> AsyncGenerator[CogProvider]:
        for name, value in {"COG_URL": cog.url, **settings}.items():
            monkeypatch.setenv(name, value)
        async with connect() as provider:
            assert isinstance(provider, CogProvider)
            yield provider

    return open_one


@pytest.fixture
async def provider(opened: Opened) -> AsyncGenerator[CogProvider]:
    """Return a provider that keeps its connections open."""
    async with opened() as one:
        yield one


@pytest.fixture
async def mailbox() -> AsyncGenerator[Mailbox]:
    """Return an open mailbox."""
    box = Mailbox()
    async with listening(box.take) as box.url:
        yield box


@pytest.fixture
def enough(cog: CogServer) -> Callable[[str], None]:
    """Return a function that ends the model's work for a prompt, now or later."""

    def tell(prompt: str) -> None:
        (cog.folder / f"{prompt}.enough").touch()

    return tell


@pytest.fixture
def prompt() -> str:
    """Return a unique prompt, because the server's ledger is by prompt."""
    return f"a cat, {uuid.uuid4()}"
