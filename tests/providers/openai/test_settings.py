"""The settings have the names of OpenAI's own client."""

from pathlib import Path

import pytest

from fleek.domain.errors import ConfigurationError
from fleek.environment import read
from fleek.providers.openai import OpenAISettings


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODELS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        (' "https://litellm.example/v1" ', "https://litellm.example/v1"),
    ],
)
def test_the_address_may_end_in_v1(monkeypatch: pytest.MonkeyPatch, given: str, base: str) -> None:
    """A private server needs no key."""
    monkeypatch.setenv("OPENAI_BASE_URL", given)

    assert read(OpenAISettings).base_url == base


def test_openai_itself_needs_a_key() -> None:
    """The error at the start names the key and the alternative."""
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY: must be set"):
        read(OpenAISettings)


@pytest.mark.parametrize("models", ["gpt-image-2", "picture:gpt-image-2", "image:a//b", "video:"])
def test_each_model_has_a_kind(monkeypatch: pytest.MonkeyPatch, models: str) -> None:
    """The name does not determine the route."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("OPENAI_MODELS", models)

    with pytest.raises(ConfigurationError, match="OPENAI_MODELS: must be entries such as"):
        read(OpenAISettings)
