"""`fleek budgets set`, where the service runs, and the commands that show what was spent."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def _database(
    migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleek: Any
) -> Iterator[None]:
    """Create the database of a service with a tenant, and keep log lines out of the output."""
    shutil.copy(migrated_file, tmp_path / "fleek.db")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/fleek.db")
    with capture_logs():
        fleek("keys", "create", "shop", "--tenant", "acme")
        yield


def test_a_budget_is_set_and_removed(fleek: Any) -> None:
    """The JSON is that of the HTTP API; the audit log has both."""
    made = fleek("budgets", "set", "2.50", "--period", "day", "--tenant", "acme")
    raised = fleek("budgets", "set", "3", "--period", "day", "--tenant", "acme", "--json")
    removed = fleek("budgets", "set", "none", "--period", "day", "--tenant", "acme")
    again = fleek("budgets", "set", "none", "--period", "day", "--tenant", "acme")
    lines = fleek("audit", "list", "--tenant", "acme")

    assert made.out == "acme\t-\tday\t2.5\t0\t0\t2.5\n"
    assert json.loads(raised.out)["limit"] == "3"
    assert (removed.code, removed.out) == (0, "")
    assert (again.code, again.err) == (4, "fleek: there is no such budget\n")
    actions = [line.split("\t")[4] for line in lines.out.splitlines()]
    assert actions == ["budget.removed", "budget.set", "budget.set", "key.created"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["much", "--period", "day"], "must be a decimal number of US dollars"),
        (["1", "--period", "week"], "--period"),
        (["1", "--period", "day", "--tenant", "!"], "--tenant"),
        (["1"], "--period"),
    ],
)
def test_a_wrong_budget_is_a_usage_error(fleek: Any, options: list[str], words: str) -> None:
    """It names what is wrong."""
    ended = fleek("budgets", "set", *options)

    assert ended.code == 2
    assert words in ended.err


def test_budgets_and_usage_of_the_server_are_shown(service: Any, fleek: Any) -> None:
    """One line each, for programs."""
    budget = {"tenant": None, "key": None, "period": "month", "start": "2026-11", "limit": "9"}
    budget |= {"spent": "1", "reserved": "0.5", "left": "7.5"}
    row = {"name": "2026-11-03", "attempts": 2, "unknown": 1, "cost": "0.003", "reserved": "0"}
    used = {"first": "2026-11-01", "last": "2026-11-30", "group_by": "day", "cost": "0.003"}
    service.answers("GET /api/v1/budgets", [budget])
    service.answers("GET /api/v1/usage", {**used, "rows": [row]})

    budgets = fleek("budgets", "list", "--tenant", "*")
    usage = fleek("usage", "--from", "2026-11-01", "--to", "2026-11-30")
    wrong = fleek("usage", "--from", "yesterday")

    assert budgets.out == "-\t-\tmonth\t9\t1\t0.5\t7.5\n"
    assert usage.out == "2026-11-03\t2\t1\t0.003\t0\n"
    assert (wrong.code, "must be a day" in wrong.err) == (2, True)
