"""Who makes the media if nobody says so: nobody is made to pay by accident."""

from pathlib import Path

import pytest

from fleek.bootstrap import open_provider
from fleek.domain.errors import ConfigurationError
from fleek.environment import read
from fleek.registry import CONFIGURED_BY
from fleek.settings import Settings, is_real_token

COG = "http://127.0.0.1:5000"
TOKEN = "r8_0123456789abcdefghijklmnopqrstuvwxyzA"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROVIDERS", "PROVIDER", "MOCK_REPLICATE", "REPLICATE_API_TOKEN", "COG_URL"):
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
        ({"PROVIDERS": "cog,placeholder"}, "cog", "PROVIDERS=cog,placeholder"),
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


@pytest.mark.parametrize(
    ("environment", "providers"),
    [
        ({"PROVIDERS": "placeholder"}, ("placeholder",)),
        ({"PROVIDERS": "replicate, cog,acme"}, ("replicate", "cog", "acme")),
        ({"PROVIDERS": "cog,placeholder,cog"}, ("cog", "placeholder")),
        (
            {"PROVIDERS": "placeholder", "COG_URL": COG, "REPLICATE_API_TOKEN": TOKEN},
            ("placeholder",),
        ),
        ({"PROVIDERS": "cog", "PROVIDER": "replicate"}, ("cog",)),
        ({}, ("placeholder",)),
        ({"COG_URL": COG}, ("placeholder", "cog")),
        ({"REPLICATE_API_TOKEN": TOKEN, "COG_URL": COG}, ("replicate", "cog")),
        ({"PROVIDER": "placeholder", "REPLICATE_API_TOKEN": TOKEN}, ("placeholder",)),
        ({"PROVIDER": "placeholder", "COG_URL": COG}, ("placeholder", "cog")),
        ({"PROVIDER": "cog", "COG_URL": COG}, ("cog",)),
        ({"PROVIDER": "acme", "COG_URL": COG, "REPLICATE_API_TOKEN": TOKEN}, ("acme", "cog")),
    ],
    ids=str,
)
def test_the_providers_to_open(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], providers: tuple[str, ...]
) -> None:
    """Those that are named and no other; if none is named, those whose setting is there."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    settings = read(Settings)

    assert settings.providers == providers
    assert settings.provider == providers[0]


def test_none_at_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service without a provider could accept no job."""
    monkeypatch.setenv("PROVIDERS", ",")

    with pytest.raises(ConfigurationError, match=r"^PROVIDERS: must name a provider"):
        read(Settings)


@pytest.mark.parametrize(("name", "setting"), CONFIGURED_BY.items())
async def test_a_provider_cannot_work_without_the_setting_that_the_registry_names(
    name: str, setting: str
) -> None:
    """The registry knows it without loading the adapter; both have to agree."""
    with pytest.raises(ConfigurationError, match=setting):
        async with open_provider(name):
            pass


def test_it_is_read_from_the_file_too(tmp_path: Path) -> None:
    """The same places count as for every other setting."""
    (tmp_path / ".env").write_text(f"REPLICATE_API_TOKEN={TOKEN}\n")

    assert read(Settings).provider == "replicate"


def test_two_wishes_that_exclude_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever won, somebody would be wrong about the money."""
    monkeypatch.setenv("PROVIDER", "replicate")
    monkeypatch.setenv("MOCK_REPLICATE", "true")

    with pytest.raises(ConfigurationError, match="replicate in PROVIDERS and MOCK_REPLICATE=true"):
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
