"""`fleek keys`: the first key is created where the service runs."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from fleek.domain.api_keys import id_of


@pytest.fixture(autouse=True)
def _database(
    migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Create the database of a service, and keep log lines out of the output."""
    shutil.copy(migrated_file, tmp_path / "fleek.db")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/fleek.db")
    with capture_logs():
        yield


def test_a_key_is_printed_once(fleek: Any) -> None:
    """The key is alone on its line, for scripts; the list does not contain it."""
    created = fleek("keys", "create", "shop")
    listed = fleek("keys", "list")

    secret = created.out.strip()
    key_id = id_of(secret)
    assert created.code == 0
    assert listed.out.split("\t")[:4] == [key_id, "default", "shop", "valid"]
    assert listed.out.strip().endswith("metrics:read")
    assert secret not in listed.out


def test_a_key_has_its_tenant_scopes_and_expiry(fleek: Any) -> None:
    """The JSON is that of the HTTP API."""
    options = ("--tenant", "acme", "--scope", "admin", "--scope", "jobs:read", "--expires", "90d")

    created = json.loads(fleek("keys", "create", "ops", *options, "--json").out)
    fleek("keys", "create", "other")
    listed = json.loads(fleek("keys", "list", "--tenant", "acme", "--json").out)

    assert created.pop("key").startswith(created["prefix"])
    assert listed == [created]
    assert created["scopes"] == ["jobs:read", "admin"]
    assert created["expires_at"] > created["created_at"]


@pytest.mark.parametrize("shown", ["{id}", "fleek_{id}", "{key}"])
def test_a_key_can_be_revoked_by_id_prefix_or_key(fleek: Any, shown: str) -> None:
    """Secret scanners report the prefix or the whole key."""
    secret = fleek("keys", "create", "shop").out.strip()

    revoked = fleek("keys", "revoke", shown.format(id=id_of(secret), key=secret))
    listed = fleek("keys", "list")

    assert revoked.code == 0
    assert "shop" in revoked.out
    assert listed.out.split("\t")[3] == "revoked"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("create", "a b"), 2),
        (("create", "x", "--tenant", "a/b"), 2),
        (("create", "x", "--scope", "all"), 2),
        (("create", "x", "--expires", "soon"), 2),
        (("revoke", "aaaaaaaaaaaa"), 4),
    ],
)
def test_an_invalid_argument_creates_and_revokes_nothing(
    fleek: Any, args: tuple[str, ...], code: int
) -> None:
    """The exit code tells the kind of error."""
    ended = fleek("keys", *args)

    assert ended.code == code
    assert ended.err
    assert fleek("keys", "list").out == ""


def test_a_key_can_be_created_before_the_service_is_public(
    fleek: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting that requires a key does not prevent its creation."""
    monkeypatch.setenv("API_HOST", "0.0.0.0")  # noqa: S104 - not bound

    assert fleek("keys", "create", "first").code == 0


def test_no_database_is_made_in_another_folder(
    fleek: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key would be of a service that does not exist."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/elsewhere.db")

    ended = fleek("keys", "create", "shop")

    assert ended.code == 2
    assert "run this in the folder of the service" in ended.err
    assert not (tmp_path / "elsewhere.db").exists()
