"""Retention is set in days, and ambiguous values are refused."""

from datetime import timedelta

import pytest

from fleek.domain.errors import ConfigurationError
from fleek.domain.media import Part
from fleek.environment import read
from fleek.settings import Settings


def test_nothing_is_removed_by_default() -> None:
    """An empty setting means the same."""
    settings = read(Settings)

    assert [settings.retention(part) for part in Part] == [None, None]
    assert settings.job_retention is None


def test_each_kind_has_its_own_retention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fractions of days are accepted."""
    monkeypatch.setenv("MEDIA_RETENTION_DAYS", "0.5")
    monkeypatch.setenv("METADATA_RETENTION_DAYS", "30")
    monkeypatch.setenv("JOB_RETENTION_DAYS", "365")

    settings = read(Settings)

    assert settings.retention(Part.MEDIA) == timedelta(hours=12)
    assert settings.retention(Part.METADATA) == timedelta(days=30)
    assert settings.job_retention == timedelta(days=365)


@pytest.mark.parametrize(
    "name", ["MEDIA_RETENTION_DAYS", "METADATA_RETENTION_DAYS", "JOB_RETENTION_DAYS"]
)
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "40000", "30d"])
def test_an_ambiguous_retention_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """0 could mean never, or at once."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=name):
        read(Settings)


def test_the_retention_of_jobs_is_at_least_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks and callers may still refer to them."""
    monkeypatch.setenv("JOB_RETENTION_DAYS", "0.04")

    with pytest.raises(ConfigurationError, match="JOB_RETENTION_DAYS"):
        read(Settings)
