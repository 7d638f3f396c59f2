"""Every registered adapter, open and empty, for the suites of the ports.

A new adapter is tested by its port's suite as soon as it is in the registry. Settings that it
needs belong in `PREPARATIONS`; if its library allows one worker per process, list it in
`APART`.
"""

import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

import process_template
from backing_services import Services
from fleek.dispatch.base import Dispatcher
from fleek.dispatch.embedded import EmbeddedDispatcher
from fleek.registry import dispatchers, load, storages
from fleek.storage.base import Storage
from process_template import inherited
from redisserver import RedisServer, redis, redis_server  # noqa: F401 - fixtures
from s3server import shared_s3

LIVE: Final = "live"
"""The name of a storage on a remote S3, with its settings in the environment."""

Preparation = Callable[[pytest.MonkeyPatch, Path, Services], None]


def _local(monkeypatch: pytest.MonkeyPatch, folder: Path, _services: Services) -> None:
    monkeypatch.setenv("STORAGE_PATH", str(folder / "storage"))


def _s3(monkeypatch: pytest.MonkeyPatch, folder: Path, services: Services) -> None:
    server = shared_s3(services)
    for name, value in server.settings(server.make_bucket(), folder).items():
        monkeypatch.setenv(name, value)


def _live(monkeypatch: pytest.MonkeyPatch, folder: Path, _services: Services) -> None:
    settings = os.environ  # noqa: TID251 - settings of tests, for a real account
    assert "LIVE_S3_BUCKET" in settings, "LIVE_S3_BUCKET must name a bucket that may be emptied"
    monkeypatch.setenv("S3_BUCKET", settings["LIVE_S3_BUCKET"])
    monkeypatch.setenv("S3_SPOOL_PATH", str(folder / "spool"))


PREPARATIONS: Final[Mapping[str, Preparation]] = {"local": _local, "s3": _s3, LIVE: _live}
"""What to set before an adapter of this name is opened; others are opened as they are."""


def _nothing(_monkeypatch: pytest.MonkeyPatch, _folder: Path, _services: Services) -> None:
    pass


def _prepare(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path, services: Services) -> None:
    monkeypatch.chdir(folder)  # a developer's own .env is not read
    PREPARATIONS.get(name, _nothing)(monkeypatch, folder, services)


@pytest.fixture(params=[*sorted(storages()), pytest.param(LIVE, marks=pytest.mark.live)])
async def storage(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    services: Services,
) -> AsyncGenerator[Storage]:
    """Each registered storage, empty."""
    _prepare(request.param, monkeypatch, tmp_path, services)
    name = "s3" if request.param == LIVE else request.param
    connect = load(storages(), name, setting="STORAGE_BACKEND")
    async with connect() as opened:
        for stored in [one async for one in opened.keys("")]:  # only a live storage contains any
            await opened.delete(stored.key)
        yield opened


APART: Final = frozenset({"celery", "dramatiq"})
"""Dispatchers of which a process has one at most: each case has a process of its own."""

LIMIT_SECONDS: Final = 300.0


@pytest.fixture(params=sorted(dispatchers()))
async def dispatcher(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncGenerator[Dispatcher]:
    """Each registered dispatcher, with nothing queued."""
    monkeypatch.chdir(tmp_path)  # a developer's own .env is not read
    if request.param in APART:
        redis: RedisServer = request.getfixturevalue("redis")
        monkeypatch.setenv("REDIS_URL", redis.url())
        yield EmbeddedDispatcher()  # not used
        return
    connect = load(dispatchers(), request.param, setting="DISPATCH")
    async with connect() as opened:
        yield opened


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a case in its own process, if its dispatcher's library requires that."""
    spec = getattr(pyfuncitem, "callspec", None)
    name = spec.params.get("dispatcher") if spec is not None else None
    if name not in APART:
        return None
    with tempfile.TemporaryFile() as log:
        process = process_template.start(
            "apart",
            *(name, str(pyfuncitem.path), pyfuncitem.originalname),
            folder=Path(__file__).parent,
            env={**inherited(), "REDIS_URL": os.environ["REDIS_URL"]},  # noqa: TID251 - a child's environment
            log=log,
        )
        written, _ = process.communicate(timeout=LIMIT_SECONDS)
        log.seek(0)
        assert process.returncode == 0, written.decode() + log.read().decode()
    return True
