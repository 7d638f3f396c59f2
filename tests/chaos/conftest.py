"""A provider that keeps books, and a service that may be hurt, on either database."""

from collections.abc import Generator
from pathlib import Path

import pytest

from chaos.host import Host
from chaos.rig import Rig, rigged


@pytest.fixture
def host(_full_suite: None, tmp_path: Path) -> Generator[Host]:
    """Give an emulator of the test's own."""
    host = Host(tmp_path, seed=1)
    yield host
    host.close()


@pytest.fixture
def rig(
    host: Host, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Generator[Rig]:
    """Give a service that buys at this host."""
    settings = {}
    if database == "postgresql":
        settings["DATABASE_URL"] = request.getfixturevalue("database_url")
    with rigged(tmp_path, host, **settings) as rig:
        yield rig
