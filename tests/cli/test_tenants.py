"""`fleek tenants`: limits of a tenant, and disabling it, where the service runs."""

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


def test_limits_are_set_and_listed(fleek: Any) -> None:
    """Other limits are kept; "default" restores the setting."""
    changed = fleek("tenants", "set", "acme", "--max-live-jobs", "5", "--rate-per-minute", "0")
    again = fleek("tenants", "set", "acme", "--max-live-jobs", "default", "--max-running", "2")
    listed = fleek("tenants", "list")

    assert changed.out == "acme\tenabled\tmax_live_jobs=5,rate_per_minute=0\n"
    assert again.out == "acme\tenabled\tmax_running=2,rate_per_minute=0\n"
    assert listed.out == f"{again.out}default\tenabled\t-\n"


def test_a_tenant_is_disabled_and_enabled(fleek: Any) -> None:
    """The JSON is that of the HTTP API; the audit log has both."""
    disabled = json.loads(fleek("tenants", "disable", "acme", "--json").out)
    listed = fleek("tenants", "list")
    enabled = json.loads(fleek("tenants", "enable", "acme", "--json").out)
    lines = fleek("audit", "list", "--tenant", "acme")

    assert disabled["disabled_at"] is not None
    assert listed.out.splitlines()[0] == "acme\tdisabled\t-"
    assert enabled == disabled | {"disabled_at": None}
    assert json.loads(fleek("tenants", "list", "--json").out)[0] == enabled
    actions = [line.split("\t")[4] for line in lines.out.splitlines()]
    assert actions == ["tenant.enabled", "tenant.disabled", "key.created"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["set", "acme"], "name a limit"),
        (["set", "acme", "--max-running", "0"], "--max-running"),
        (["set", "acme", "--max-running", "many"], "must be a number, or default"),
        (["set", "acme", "--rate-per-minute", "-1"], "--rate-per-minute"),
    ],
)
def test_a_wrong_limit_is_a_usage_error(fleek: Any, options: list[str], words: str) -> None:
    """The message has the limit and the allowed values."""
    refused = fleek("tenants", *options)

    assert refused.code == 2
    assert words in refused.err


@pytest.mark.parametrize("verb", [["disable"], ["enable"], ["set", "--max-running", "3"]])
def test_an_unknown_tenant_is_not_found(fleek: Any, verb: list[str]) -> None:
    """A misspelt name must not look like a success."""
    missing = fleek("tenants", *verb, "acne")

    assert missing.code == 4
    assert "no such tenant" in missing.err
