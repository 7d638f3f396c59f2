"""`fleek health`, as used by health checks of containers and load balancers."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from fleek.domain.job import WorkerId
from fleek.engine.heartbeat import process_space
from fleek.store import workers
from fleek.store.database import open_database
from fleek.store.migrate import migrate

URL = "sqlite+aiosqlite:///./fleek.db"


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)


def a_check(status: str = "healthy") -> dict[str, Any]:
    """Return a check as the API returns it."""
    advice = None if status == "healthy" else "start one"
    return {"status": status, "message": "as it is", "advice": advice, "latency_ms": 1.0}


@pytest.mark.parametrize(
    ("status", "check", "code"),
    [("healthy", "healthy", 0), ("degraded", "unhealthy", 0), ("unhealthy", "unhealthy", 1)],
)
def test_health_reports_the_server_s_status(
    fleek: Callable[..., Any], service: Any, status: str, check: str, code: int
) -> None:
    """A service that accepts jobs is healthy enough: a restart would not help."""
    answer = {"status": status, "checks": {"workers": a_check(check)}}
    service.answers("GET /health/detailed", answer, status=503 if code else 200)

    ended = fleek("health")

    assert ended.code == code
    assert "as it is" in ended.out
    assert ("start one" in ended.out) is (check != "healthy")


async def _register(host: str) -> None:
    async with open_database(URL) as db:
        await migrate(db)
        now = datetime.now(UTC)
        worker = workers.Worker(
            id=WorkerId(uuid4()),
            host=host,
            pid=1,
            version="0",
            slots=64,
            started_at=now,
            heartbeat_at=now,
        )
        await workers.register(db, worker)


@pytest.mark.parametrize(("here", "code"), [(True, 0), (False, 1)], ids=["here", "elsewhere"])
def test_health_looks_for_a_worker_on_this_machine(
    fleek: Callable[..., Any],
    here: bool,  # noqa: FBT001 - a table
    code: int,
) -> None:
    """A container checks its own worker, not that of another machine."""
    asyncio.run(_register(process_space() if here else "elsewhere"))

    ended = fleek("health", "--worker")

    assert ended.code == code
    assert ("1 alive" in ended.out) is here


def test_an_unreachable_database_is_exit_2(
    fleek: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and no traceback."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x")

    ended = fleek("health", "--worker")

    assert ended.code == 2
    assert ended.err.startswith("fleek: ")
