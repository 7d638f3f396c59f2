"""Who makes the media if nobody says so: nobody is made to pay by accident."""

from pathlib import Path

import pytest

from fleek.domain.errors import ConfigurationError
from fleek.environment import read
from fleek.settings import Settings, is_real_token

TOKEN = "r8_0123456789abcdefghijklmnopqrstuvwxyzA"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROVIDER", "MOCK_REPLICATE", "REPLICATE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "provider", "reason"),
    [
        ({}, "placeholder", "REPLICATE_API_TOKEN is not set"),
        ({"REPLICATE_API_TOKEN": ""}, "placeholder", "REPLICATE_API_TOKEN is not set"),
        (
            {"REPLICATE_API_TOKEN": "mock_token_for_demo"},
            "placeholder",
            "REPLICATE_API_TOKEN holds an example, not a token",
        ),
        ({"REPLICATE_API_TOKEN": TOKEN}, "replicate", "REPLICATE_API_TOKEN is set"),
        (
            {"REPLICATE_API_TOKEN": TOKEN, "MOCK_REPLICATE": "true"},
            "placeholder",
            "MOCK_REPLICATE=true",
        ),
        ({"MOCK_REPLICATE": "false"}, "replicate", "MOCK_REPLICATE=false"),
        (
            {"REPLICATE_API_TOKEN": TOKEN, "PROVIDER": "placeholder"},
            "placeholder",
            "PROVIDER=placeholder",
        ),
        ({"PROVIDER": "replicate"}, "replicate", "PROVIDER=replicate"),
    ],
    ids=str,
)
def test_the_default(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], provider: str, reason: str
) -> None:
    """A token says that somebody wants to pay; a switch says that nobody does."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    settings = read(Settings)

    assert (settings.provider, settings.provider_reason) == (provider, reason)


def test_it_is_read_from_the_file_too(tmp_path: Path) -> None:
    """The same places count as for every other setting."""
    (tmp_path / ".env").write_text(f"REPLICATE_API_TOKEN={TOKEN}\n")

    assert read(Settings).provider == "replicate"


def test_two_wishes_that_exclude_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever won, somebody would be wrong about the money."""
    monkeypatch.setenv("PROVIDER", "replicate")
    monkeypatch.setenv("MOCK_REPLICATE", "true")

    with pytest.raises(ConfigurationError, match="PROVIDER=replicate and MOCK_REPLICATE=true"):
        read(Settings)


def test_a_switch_that_is_neither_on_nor_off_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends with one line."""
    monkeypatch.setenv("MOCK_REPLICATE", "perhaps")

    with pytest.raises(ConfigurationError, match=r"^MOCK_REPLICATE: "):
        read(Settings)


@pytest.mark.parametrize("token", [TOKEN, "r8_test", "r8_YourXxxMine0", "t0k3n"])
def test_what_may_be_a_token_is_taken_for_one(token: str) -> None:
    """Replicate decides, and emulators take any."""
    assert is_real_token(token)
