"""The settings for Replicate, and their effects."""

from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from fleek.domain.errors import ConfigurationError
from fleek.environment import read
from fleek.outbound.addresses import UnsafeAddress, parse
from fleek.providers.replicate import ReplicateSettings, connect

TOKEN = "r8_0123456789abcdefghijklmnopqrstuvwxyzA"


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set a token, and return the fixture that sets more."""
    monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
    return monkeypatch


@pytest.mark.parametrize(
    "value",
    [
        "",
        "  ",
        "mock_token_for_demo",
        "your_token_here",
        "your-replicate-token",
        "r8_xxxxxxxxxxxxxxxx",
        "r8_XXXX...",
        "<your token>",
        "r8_",
        "changeme",
        "None",
    ],
)
async def test_a_placeholder_is_not_a_token(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The error names the setting and says where to get a token."""
    monkeypatch.setenv("REPLICATE_API_TOKEN", value)

    with pytest.raises(ConfigurationError, match=r"REPLICATE_API_TOKEN: must be set.*replicate"):
        async with connect():
            pass


async def test_a_missing_token_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every job would fail."""
    monkeypatch.delenv("REPLICATE_API_TOKEN", raising=False)

    with pytest.raises(ConfigurationError, match="REPLICATE_API_TOKEN"):
        async with connect():
            pass


@pytest.mark.usefixtures("token")
async def test_a_token_is_enough_to_open() -> None:
    """No request is sent."""
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(connect())

        assert provider.reconcile_by == "find"


@pytest.mark.parametrize(
    ("given", "base"),
    [
        (None, "https://api.replicate.com/v1"),
        ("https://api.replicate.com", "https://api.replicate.com/v1"),
        ("http://127.0.0.1:9009/", "http://127.0.0.1:9009/v1"),
        ("http://127.0.0.1:9009/v1/", "http://127.0.0.1:9009/v1"),
        ("https://proxy.example/replicate", "https://proxy.example/replicate/v1"),
    ],
)
def test_the_base_url_may_end_with_its_version_or_not(
    token: pytest.MonkeyPatch, given: str | None, base: str
) -> None:
    """Replicate's own clients disagree about it."""
    if given is not None:
        token.setenv("REPLICATE_BASE_URL", given)

    assert read(ReplicateSettings).replicate_base_url == base


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REPLICATE_BASE_URL", "api.replicate.com"),
        ("REPLICATE_BASE_URL", "ftp://api.replicate.com"),
        ("REPLICATE_BASE_URL", "https://user:pw@api.replicate.com"),
        ("REPLICATE_OUTPUT_HOSTS", "https://replicate.delivery"),
        ("REPLICATE_OUTPUT_HOSTS", "a b"),
        ("REPLICATE_CREATES_PER_MINUTE", "0"),
        ("REPLICATE_CALLS_PER_MINUTE", "many"),
        ("REPLICATE_WEBHOOK_SECRET", "whsec_%%%"),
        ("MAX_OUTPUT_BYTES", "-1"),
    ],
)
def test_an_invalid_setting_is_named(token: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The process ends with one line that names it."""
    token.setenv(name, value)

    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        read(ReplicateSettings)


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    "url",
    [
        "https://replicate.delivery/x/out.png",
        "https://pbxt.replicate.delivery/x/out.png",
        "https://api.replicate.com/v1/files/x",
    ],
)
def test_outputs_of_replicates_hosts_are_allowed(url: str) -> None:
    """Other hosts must be configured."""
    policy = read(ReplicateSettings).policy

    assert str(parse(url, policy)) == url


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    "url",
    [
        "http://replicate.delivery/x.png",
        "https://replicate.delivery:8443/x.png",
        "https://evilreplicate.delivery/x.png",
        "https://replicate.delivery.evil.example/x.png",
        "https://127.0.0.1/x.png",
    ],
)
def test_outputs_of_other_hosts_are_refused(url: str) -> None:
    """The model's author chooses the address."""
    policy = read(ReplicateSettings).policy

    with pytest.raises(UnsafeAddress):
        parse(url, policy)


def test_a_configured_host_may_be_private(token: pytest.MonkeyPatch) -> None:
    """Such as an emulator; plain HTTP is limited to the API's own host."""
    token.setenv("REPLICATE_BASE_URL", "http://127.0.0.1:9009")
    token.setenv("REPLICATE_OUTPUT_HOSTS", "*.replicate.delivery, 127.0.0.1:9010, 10.0.0.7")
    policy = read(ReplicateSettings).policy

    for url in (
        "http://127.0.0.1:9009/out/x.png",
        "http://127.0.0.1:9010/out/x.png",
        "https://10.0.0.7/x.png",
        "https://replicate.delivery/x.png",
    ):
        assert str(parse(url, policy)) == url
    for url in ("http://127.0.0.1:6379/", "http://10.0.0.7/x.png", "https://10.0.0.8/x.png"):
        with pytest.raises(UnsafeAddress):
            parse(url, policy)


@pytest.mark.parametrize(
    ("base", "public", "expected"),
    [
        (None, None, None),
        (None, "http://fleek.example", None),
        (None, "https://fleek.example/", "https://fleek.example/webhooks/replicate"),
        ("http://127.0.0.1:9009", None, None),
        (
            "http://127.0.0.1:9009",
            "http://127.0.0.1:8000",
            "http://127.0.0.1:8000/webhooks/replicate",
        ),
    ],
)
def test_callbacks_are_requested_where_they_can_arrive(
    token: pytest.MonkeyPatch, base: str | None, public: str | None, expected: str | None
) -> None:
    """Replicate calls HTTPS only, and refuses predictions with other addresses."""
    if base is not None:
        token.setenv("REPLICATE_BASE_URL", base)
    if public is not None:
        token.setenv("PUBLIC_URL", public)

    assert read(ReplicateSettings).callback_base == expected


@pytest.mark.parametrize(
    ("public", "lines"), [(None, 1), ("http://fleek.example", 1), ("https://fleek.example", 0)]
)
async def test_polling_without_callbacks_is_logged_once(
    token: pytest.MonkeyPatch, public: str | None, lines: int
) -> None:
    """The line names the setting that enables callbacks."""
    if public is not None:
        token.setenv("PUBLIC_URL", public)

    with capture_logs() as logged:
        async with connect():
            pass

    polled = [line for line in logged if line["event"] == "replicate_polled"]
    assert len(polled) == lines
    assert all("PUBLIC_URL" in line["reason"] for line in polled)


def test_several_secrets_may_be_configured(token: pytest.MonkeyPatch) -> None:
    """During a change of the secret."""
    token.setenv("REPLICATE_WEBHOOK_SECRET", "whsec_Zmlyc3Q= whsec_c2Vjb25k")

    assert read(ReplicateSettings).keys == (b"first", b"second")
