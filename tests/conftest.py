"""What every test may ask for: an open runtime on SQLite, with a clock and a scripted provider."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fakes import Clock, FakeProvider
from fleek.bootstrap import open_runtime
from fleek.engine.pulse import Pulse
from fleek.engine.runtime import Runtime
from fleek.settings import Settings
from fleek.store.migrate import migrate


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, so that no ``.env`` and no database of the developer is read."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still until it is told to move."""
    return Clock()


@pytest.fixture
def provider() -> FakeProvider:
    """Return a provider that sells everything and succeeds at the first look."""
    return FakeProvider()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return the default settings, with everything below the test's own folder."""
    return Settings(database_url=f"sqlite:///{tmp_path}/fleek.db")


@pytest.fixture
async def rt(settings: Settings, clock: Clock, provider: FakeProvider) -> AsyncGenerator[Runtime]:
    """Return an open runtime: real database, storage and dispatcher, no loop running."""
    async with open_migrated(settings, clock, provider) as opened:
        yield opened


@asynccontextmanager
async def open_migrated(
    settings: Settings, clock: Clock, provider: FakeProvider
) -> AsyncGenerator[Runtime]:
    """Open a runtime on a migrated database, with this process registered as a worker."""
    async with open_runtime(settings) as opened:
        await migrate(opened.db)
        pulse = Pulse(opened.db, heartbeat=settings.heartbeat_seconds, slots=4, now=clock)
        rt = replace(
            opened, now=clock, pulse=pulse, providers={"placeholder": provider, "fake": provider}
        )
        await rt.pulse.register()
        yield rt


@pytest.fixture
def another_life(rt: Runtime) -> Callable[[], Runtime]:
    """Return a maker of runtimes that share everything with `rt` but are workers of their own."""

    def make() -> Runtime:
        heartbeat: timedelta = rt.pulse.heartbeat
        return replace(rt, pulse=Pulse(rt.db, heartbeat=heartbeat, slots=4, now=rt.now))

    return make
