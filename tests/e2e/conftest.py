"""Services for single tests, on either database."""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from backing_services import Postgres, Services
from redisserver import own_redis, redis, redis_server  # noqa: F401 - fixtures
from service_process import Service, delay, running, running_on

SETTINGS: Final = {**delay("0.5"), "HEARTBEAT_SECONDS": "1"}  # a slow process must not expire


@pytest.fixture
def service(_full_suite: None, tmp_path: Path) -> Generator[Service]:
    """Yield a service on SQLite with predictions of half a second."""
    with running(tmp_path, **SETTINGS) as opened:
        yield opened


@pytest.fixture
def own_postgres(_full_suite: None) -> Generator[Postgres]:
    """Yield a PostgreSQL server for a single test, which may stop it."""
    services = Services.open()
    try:
        yield services.postgres()
    finally:
        services.close()


@pytest.fixture
def on_postgres(tmp_path: Path, postgres: Postgres) -> Generator[Service]:
    """Yield a service on the PostgreSQL server that all tests share."""
    with running_on(postgres, tmp_path, **SETTINGS) as opened:
        yield opened


@pytest.fixture
def on_own_postgres(tmp_path: Path, own_postgres: Postgres) -> Generator[Service]:
    """Yield a service on its own PostgreSQL server with durable commits."""
    with running_on(own_postgres, tmp_path, **SETTINGS) as opened:
        yield opened
