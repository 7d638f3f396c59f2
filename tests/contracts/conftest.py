"""Every registered adapter, open and empty, for the suites that are written against the ports.

A new adapter is run by its port's suite as soon as it has a line in the registry. If it needs
settings, they are given in `PREPARATIONS`.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from fleek.dispatch.base import Dispatcher
from fleek.registry import dispatchers, load, storages
from fleek.storage.base import Storage
from s3server import shared_s3
from services import Services

Preparation = Callable[[pytest.MonkeyPatch, Path, Services], None]


def _local(monkeypatch: pytest.MonkeyPatch, folder: Path, _services: Services) -> None:
    monkeypatch.setenv("STORAGE_PATH", str(folder / "storage"))


def _s3(monkeypatch: pytest.MonkeyPatch, folder: Path, services: Services) -> None:
    server = shared_s3(services)
    for name, value in server.settings(server.make_bucket(), folder).items():
        monkeypatch.setenv(name, value)


PREPARATIONS: Final[Mapping[str, Preparation]] = {"local": _local, "s3": _s3}
"""What to set before an adapter of this name is opened; others are opened as they are."""


def _nothing(_monkeypatch: pytest.MonkeyPatch, _folder: Path, _services: Services) -> None:
    pass


def _prepare(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path, services: Services) -> None:
    monkeypatch.chdir(folder)  # a developer's own .env is not read
    PREPARATIONS.get(name, _nothing)(monkeypatch, folder, services)


@pytest.fixture(params=sorted(storages()))
async def storage(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    services: Services,
) -> AsyncGenerator[Storage]:
    """Each registered storage, empty."""
    _prepare(request.param, monkeypatch, tmp_path, services)
    connect = load(storages(), request.param, setting="STORAGE_BACKEND")
    async with connect() as opened:
        yield opened


@pytest.fixture(params=sorted(dispatchers()))
async def dispatcher(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    services: Services,
) -> AsyncGenerator[Dispatcher]:
    """Each registered dispatcher, with nothing queued."""
    _prepare(request.param, monkeypatch, tmp_path, services)
    connect = load(dispatchers(), request.param, setting="DISPATCH")
    async with connect() as opened:
        yield opened
