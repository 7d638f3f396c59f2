"""A renamed setting keeps its old name for one release, with a warning."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fleek.bootstrap import open_runtime
from fleek.doctor import examine
from fleek.domain.errors import ConfigurationError
from fleek.environment import read
from fleek.settings import RENAMED, Settings, renamed_in_use


def test_the_old_name_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment."""
    monkeypatch.setenv("ADOPT_SECONDS", "7")

    assert read(Settings).reconcile_seconds == timedelta(seconds=7)


def test_the_old_name_is_accepted_in_a_file(tmp_path: Path) -> None:
    """In ``.env``, too."""
    (tmp_path / ".env").write_text("MAX_CRASHES=2\n", encoding="utf-8")

    assert read(Settings).max_worker_crashes == 2
    assert renamed_in_use() == {"MAX_CRASHES": "MAX_WORKER_CRASHES"}


def test_the_new_name_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are set during a migration."""
    monkeypatch.setenv("ADOPT_SECONDS", "7")
    monkeypatch.setenv("RECONCILE_SECONDS", "8")

    assert read(Settings).reconcile_seconds == timedelta(seconds=8)


def test_an_invalid_value_is_refused_under_either_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message has the new name."""
    monkeypatch.setenv("ADOPT_SECONDS", "soon")

    with pytest.raises(ConfigurationError, match="RECONCILE_SECONDS: must be a number of seconds"):
        read(Settings)


def test_the_start_warns_of_old_names(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Once for each, in the log."""
    for old in RENAMED:
        monkeypatch.setenv(old, "9")

    async def begin() -> None:
        async with open_runtime(settings):
            pass

    with capture_logs() as logs:
        asyncio.run(begin())

    warned = {entry["old"]: entry["new"] for entry in logs if entry["event"] == "setting_renamed"}
    assert warned == RENAMED


async def test_doctor_warns_of_old_names(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """It advises the new name."""
    monkeypatch.setenv("MAX_CRASHES", "2")

    findings = [finding for finding in await examine(settings) if finding.subject == "settings"]

    (finding,) = findings
    assert finding.status == "warning"
    assert "MAX_WORKER_CRASHES" in finding.message
