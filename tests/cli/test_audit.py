"""`fleek audit` reads and checks the log where the service runs."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def _database(
    migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Create the database of a service, and keep log lines out of the output."""
    shutil.copy(migrated_file, tmp_path / "fleek.db")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/fleek.db")
    with capture_logs():
        yield


def test_commands_are_audited(fleek: Any) -> None:
    """Newest first, one line each; as JSON with all fields."""
    fleek("keys", "create", "shop", "--tenant", "acme")
    fleek("queue", "pause", "--provider", "placeholder")

    listed = fleek("audit", "list").out.splitlines()
    (paused, created) = json.loads(fleek("audit", "list", "--json").out)
    of_tenant = fleek("audit", "list", "--tenant", "acme").out.splitlines()

    assert [line.split("\t")[0] for line in listed] == ["2", "1"]
    assert of_tenant == listed[1:]
    assert (paused["action"], paused["detail"]["provider"]) == ("queue.paused", "placeholder")
    assert (created["actor"], created["tenant"]) == ("command line", "acme")
    assert created["detail"]["name"] == "shop"


def test_a_modified_log_is_detected(fleek: Any, tmp_path: Path) -> None:
    """Exit code 1, and the number of the line."""
    fleek("keys", "create", "shop")
    before = fleek("audit", "verify")

    with closing(sqlite3.connect(tmp_path / "fleek.db")) as file, file:
        file.execute("UPDATE audit SET actor = 'nobody'")
    after = fleek("audit", "verify")

    assert (before.code, before.out) == (0, "1 lines are as they were written\n")
    assert after.code == 1
    assert "line 1 " in after.err
