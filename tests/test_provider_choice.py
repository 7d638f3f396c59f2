"""The default provider: paid predictions need an explicit setting."""

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
def test_the_default_provider(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], provider: str, reason: str
) -> None:
    """A token selects Replicate, unless a switch says otherwise."""
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
def test_the_opened_providers(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], providers: tuple[str, ...]
) -> None:
    """Exactly those that are named; if none is named, the configured ones."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    settings = read(Settings)

    assert settings.providers == providers
    assert settings.provider == providers[0]


def test_an_empty_list_of_providers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service without a provider cannot accept jobs."""
    monkeypatch.setenv("PROVIDERS", ",")

    with pytest.raises(ConfigurationError, match=r"^PROVIDERS: must name a provider"):
        read(Settings)


@pytest.mark.parametrize(("name", "setting"), CONFIGURED_BY.items())
async def test_a_provider_requires_the_setting_named_in_the_registry(
    name: str, setting: str
) -> None:
    """The registry does not load the adapter; both have to agree."""
    with pytest.raises(ConfigurationError, match=setting):
        async with open_provider(name):
            pass


def test_the_provider_may_be_set_in_a_file(tmp_path: Path) -> None:
    """As with every other setting."""
    (tmp_path / ".env").write_text(f"REPLICATE_API_TOKEN={TOKEN}\n")

    assert read(Settings).provider == "replicate"


def test_contradictory_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either choice could cost money unexpectedly."""
    monkeypatch.setenv("PROVIDER", "replicate")
    monkeypatch.setenv("MOCK_REPLICATE", "true")

    with pytest.raises(ConfigurationError, match="replicate in PROVIDERS and MOCK_REPLICATE=true"):
        read(Settings)


def test_an_invalid_switch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends with one line."""
    monkeypatch.setenv("MOCK_REPLICATE", "perhaps")

    with pytest.raises(ConfigurationError, match=r"^MOCK_REPLICATE: "):
        read(Settings)


@pytest.mark.parametrize("token", [TOKEN, "r8_test", "r8_YourXxxMine0", "t0k3n"])
def test_a_possible_token_is_accepted(token: str) -> None:
    """Replicate decides, and emulators accept any."""
    assert is_real_token(token)
