"""A provider with a ledger, and a service for faults, on either database."""

from collections.abc import Generator
from pathlib import Path

import pytest

from backing_services import SLOW_LOCKS
from chaos.host import Host
from chaos.rig import Rig, rigged


@pytest.fixture
def host(_full_suite: None, tmp_path: Path) -> Generator[Host]:
    """Yield an emulator for a single test."""
    host = Host(tmp_path, seed=1)
    yield host
    host.close()


@pytest.fixture
def rig(
    host: Host, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Generator[Rig]:
    """Yield a service that uses this emulator."""
    settings = {}
    if database == "postgresql":
        url: str = request.getfixturevalue("database_url")
        settings["DATABASE_URL"] = url.removesuffix(SLOW_LOCKS)
    with rigged(tmp_path, host, **settings) as rig:
        yield rig
