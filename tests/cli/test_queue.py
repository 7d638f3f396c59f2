"""`fleek queue` pauses and resumes the start of predictions."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _database(migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create the database of a service."""
    shutil.copy(migrated_file, tmp_path / "fleek.db")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/fleek.db")


def test_a_pause_is_shown_until_it_is_resumed(fleek: Any) -> None:
    """Each command prints the new state of the queue."""
    fleek("queue", "pause")
    both = fleek("queue", "pause", "--provider", "placeholder", "--json")
    resumed = fleek("queue", "resume")
    shown = fleek("queue", "show", "--json")

    document = json.loads(both.out[both.out.index("{") :])
    assert [(one["provider"], one["model"]) for one in document["paused"]] == [
        (None, None),
        ("placeholder", None),
    ]
    assert "paused: every model of placeholder since" in resumed.out
    left = json.loads(shown.out[shown.out.index("{") :])
    assert [one["provider"] for one in left["paused"]] == ["placeholder"]
    assert (left["pending"], left["processing"]) == (0, 0)


def test_an_unknown_provider_cannot_be_paused(fleek: Any) -> None:
    """A typing error would look like a pause."""
    ended = fleek("queue", "pause", "--provider", "replicat")

    assert ended.code == 2
    assert "no such provider" in ended.err
