"""How long things are kept is said in days, and a slip of the hand removes nothing."""

from datetime import timedelta

import pytest

from fleek.domain.errors import ConfigurationError
from fleek.domain.media import Part
from fleek.environment import read
from fleek.settings import Settings


def test_nothing_is_removed_unless_somebody_says_so() -> None:
    """The default, and what an empty setting means."""
    settings = read(Settings)

    assert [settings.retention(part) for part in Part] == [None, None]
    assert settings.job_retention is None


def test_each_kind_has_its_own_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fractions of days are fine."""
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
def test_what_may_be_meant_otherwise_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Does 0 mean never, or at once? Nobody shall find out with their files."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=name):
        read(Settings)


def test_a_job_is_kept_for_an_hour_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its provider may still call back, and its callers ask."""
    monkeypatch.setenv("JOB_RETENTION_DAYS", "0.04")

    with pytest.raises(ConfigurationError, match="JOB_RETENTION_DAYS"):
        read(Settings)
