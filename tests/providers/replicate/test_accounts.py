"""Several tokens in one setting: an account for each."""

import pytest
from structlog.testing import capture_logs

from fleek.doctor import examine
from fleek.domain.errors import ConfigurationError
from fleek.domain.job import ModelName
from fleek.emulator.server import Emulator
from fleek.environment import read
from fleek.providers.replicate import ReplicateSettings, open_provider
from fleek.settings import Settings

FIRST = "r8_first0123456789abcdefghijklmnopqrstuv"
SECOND = "r8_second123456789abcdefghijklmnopqrstuv"


@pytest.fixture
def two_tokens(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set two tokens; the emulator accepts the second one only."""
    emulator.account.plan = emulator.account.plan.model_copy(update={"tokens": (SECOND,)})
    monkeypatch.setenv("REPLICATE_BASE_URL", emulator.api_url)
    monkeypatch.setenv("REPLICATE_API_TOKEN", f" {FIRST}, {SECOND},{FIRST}")


@pytest.mark.usefixtures("two_tokens")
async def test_each_token_is_an_account() -> None:
    """One that is named twice is one account; nothing of a token is logged."""
    with capture_logs() as lines:
        async with open_provider(read(ReplicateSettings)) as provider:
            names = list(provider.accounts)
            schema = await provider.accounts[names[1]].schema(
                ModelName("black-forest-labs/flux-dev")
            )

    assert len(names) == 2
    assert provider.accounts[names[0]] is provider
    assert schema is not None
    assert not any(token[3:] in str(lines) for token in (FIRST, SECOND))


@pytest.mark.usefixtures("two_tokens")
async def test_the_doctor_examines_each_account(settings: Settings) -> None:
    """A token that is refused is named by its account, not by its content."""
    both = settings.model_copy(update={"providers": ("replicate",), "default_model": None})

    findings = [each for each in await examine(both) if each.subject == "provider"]

    refused, accepted = findings
    assert (refused.status, accepted.status) == ("error", "ok")
    assert refused.message.startswith("replicate#")
    assert accepted.message.startswith("replicate#")
    assert not any(token[3:] in str(findings) for token in (FIRST, SECOND))


def test_an_example_among_tokens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be an account that refuses everything."""
    monkeypatch.setenv("REPLICATE_API_TOKEN", f"{FIRST},r8_...")

    with pytest.raises(ConfigurationError, match="REPLICATE_API_TOKEN"):
        read(ReplicateSettings)
