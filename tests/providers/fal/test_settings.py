"""The settings have the names of fal's own clients."""

from pathlib import Path

import pytest

from fleek.bootstrap import open_provider
from fleek.domain.errors import ConfigurationError
from fleek.environment import read
from fleek.providers.fal import FalProvider, FalSettings, callback_base


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAL_KEY", "id:secret")
    for name in ("FAL_QUEUE_URL", "FAL_MODELS", "PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error at the start names it."""
    monkeypatch.delenv("FAL_KEY")

    with pytest.raises(ConfigurationError, match="FAL_KEY: must be set"):
        read(FalSettings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAL_QUEUE_URL", "queue.fal.run"),
        ("FAL_QUEUE_URL", "https://user:word@queue.fal.run"),
        ("FAL_JWKS_URL", "file:///etc/passwd"),
        ("FAL_MODELS", "flux"),
        ("FAL_MODELS", "fal-ai/flux:1"),
        ("FAL_OBJECT_LIFETIME", "1"),
        ("FAL_MAX_CONCURRENCY", "0"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The process does not start with it."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=f"{name}: "):
        read(FalSettings)


@pytest.mark.parametrize(
    ("public", "queue", "base"),
    [
        (None, "https://queue.fal.run", None),
        ("http://media.example", "https://queue.fal.run", None),
        ("https://media.example/", "https://queue.fal.run", "https://media.example/webhooks/fal"),
        (
            "http://127.0.0.1:8000",
            "http://127.0.0.1:9009/fal",
            "http://127.0.0.1:8000/webhooks/fal",
        ),
    ],
)
def test_callbacks_are_requested_at_public_addresses(
    public: str | None, queue: str, base: str | None
) -> None:
    """And of an emulator on this machine."""
    assert callback_base(public, queue) == base


async def test_the_first_model_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are listed, and any other can be run."""
    monkeypatch.setenv("FAL_MODELS", "fal-ai/flux-pro/v1.1, fal-ai/flux/dev")
    monkeypatch.setenv("PUBLIC_URL", "https://media.example")

    async with open_provider("fal") as provider:
        assert isinstance(provider, FalProvider)
        models = [model.name for model in await provider.models()]

    assert provider.default_model == "fal-ai/flux-pro/v1.1"
    assert models == ["fal-ai/flux-pro/v1.1", "fal-ai/flux/dev"]
    assert provider.config.callback_base == "https://media.example/webhooks/fal"
