"""Pasted settings are cleaned, or refused in one line without the value."""

from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from fleek.dispatch.celery.application import CelerySettings
from fleek.domain.errors import ConfigurationError
from fleek.domain.text import without_credentials
from fleek.environment import SOURCE, Secret, read
from fleek.providers.cog.settings import CogSettings
from fleek.providers.replicate import ReplicateSettings
from fleek.settings import Settings
from fleek.storage.s3.settings import S3Settings

TOKEN = "r8_C4n4ry"
PASTED = {
    "blanks": f"  {TOKEN}\t ",
    "a line's end": f"{TOKEN}\r\n",
    "quotes": f'"{TOKEN}"',
    "single quotes within blanks": f" '{TOKEN}' ",
    "typographic quotes": f"\u201c{TOKEN}\u201d",
    "backquotes": f"`{TOKEN}`",
    "a byte order mark": f"\ufeff{TOKEN}",
    "zero width": f"\u200b{TOKEN}\u2060\u200d",
    "blanks of other languages": f"\u00a0{TOKEN}\u3000",
    "Bearer": f"Bearer {TOKEN}",
    "a header": f"Authorization: bearer  {TOKEN}",
    "its name": f"REPLICATE_API_TOKEN={TOKEN}",
    "a line of a shell": f"export REPLICATE_API_TOKEN='{TOKEN}'\n",
    "controls": f"\x1b{TOKEN}\0",
}
REFUSED = {
    "a blank inside": "r8_C4n 4ry",
    "a line's end inside": "r8_C4n\n4ry",
    "full width": "\uff52\uff18_C4n4ry",
    "letters of no ASCII": "r8_C4n4ry\u00e9",
    "zero width inside": "r8_C4n\u200b4ry",
    "the end of a word in bullets": "r8_C4n4ry\u2022\u2022\u2022",
}
BLANK = ("", "  ", '""', "\n", "\ufeff", "REPLICATE_API_TOKEN=")


class Holder(BaseSettings):
    """A secret setting."""

    model_config = SOURCE
    holder_token: Secret = None


def secret(value: Any) -> str | None:
    """Return the value of a secret."""
    return None if value is None else str(value.get_secret_value())


@pytest.mark.parametrize("name", PASTED)
def test_surroundings_of_a_secret_are_removed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be sent, and refused by the provider."""
    if "\0" not in PASTED[name]:  # no environment holds it
        monkeypatch.setenv("HOLDER_TOKEN", PASTED[name])
        assert secret(read(Holder).holder_token) == TOKEN

    assert secret(read(Holder, holder_token=PASTED[name]).holder_token) == TOKEN


@pytest.mark.parametrize("name", REFUSED)
def test_an_invalid_secret_is_refused(name: str) -> None:
    """At the start, with its name and without its value."""
    with pytest.raises(ConfigurationError) as refused:
        read(Holder, holder_token=REFUSED[name])

    assert str(refused.value).startswith("HOLDER_TOKEN: must consist of ASCII letters")
    assert "\n" not in str(refused.value)
    assert "C4n" not in str(refused.value)


@pytest.mark.parametrize("value", BLANK)
def test_a_blank_secret_is_none(value: str) -> None:
    """As if it were not set."""
    assert read(Holder, holder_token=value).holder_token is None


PLACES: dict[str, tuple[type[BaseSettings], dict[str, str]]] = {
    "replicate_api_token": (ReplicateSettings, {}),
    "token": (CogSettings, {"url": "http://127.0.0.1:5000"}),
    "webhook_token": (CogSettings, {"url": "http://127.0.0.1:5000"}),
    "S3_SECRET_ACCESS_KEY": (S3Settings, {"S3_BUCKET": "abc", "S3_ACCESS_KEY_ID": "a"}),
    "S3_ACCESS_KEY_ID": (S3Settings, {"S3_BUCKET": "abc", "S3_SECRET_ACCESS_KEY": "a"}),
    "s3_session_token": (S3Settings, {"S3_BUCKET": "abc"}),
    "aws_session_token": (S3Settings, {"S3_BUCKET": "abc"}),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_secret_is_cleaned(place: str) -> None:
    """In every adapter."""
    kind, others = PLACES[place]

    settings = read(kind, **{**others, place: f' "{TOKEN}"\n'})

    value = getattr(settings, place.lower())
    assert (value if isinstance(value, str) else secret(value)) == TOKEN
    with pytest.raises(ConfigurationError) as refused:
        read(kind, **{**others, place: "r8_C4n\n4ry"})
    assert "C4n" not in str(refused.value)


def test_webhook_secrets_are_cleaned_separately() -> None:
    """There are two during a change."""
    given = ' "whsec_YWJj", "whsec_ZGVm"\n'

    settings = read(ReplicateSettings, replicate_api_token=TOKEN, replicate_webhook_secret=given)

    assert settings.keys == (b"abc", b"def")


def test_addresses_with_a_password_are_cleaned() -> None:
    """Hosting providers show them in quotes and with their names."""
    database = read(Settings, database_url="DATABASE_URL='postgresql://u:p%40@h/n'\n")
    broker = read(CelerySettings, redis_url=' "redis://:p@h:6379/0"\n')
    replicate = read(
        ReplicateSettings, replicate_api_token=TOKEN, replicate_base_url='"https://a.test/v1" '
    )

    assert database.database_url == "postgresql://u:p%40@h/n"
    assert broker.redis_url == "redis://:p@h:6379/0"
    assert replicate.replicate_base_url == "https://a.test/v1"


@pytest.mark.parametrize(
    ("kind", "field"), [(Settings, "database_url"), (CelerySettings, "celery_broker_url")]
)
def test_an_address_in_two_lines_is_refused_without_its_password(
    kind: type[BaseSettings], field: str
) -> None:
    """The second line may be another setting."""
    with pytest.raises(ConfigurationError) as refused:
        read(kind, **{field: "postgresql://u:C4n\n4ry@h/n"})

    assert str(refused.value).startswith(f"{field.upper()}: must")
    assert "C4n" not in str(refused.value)


@pytest.mark.parametrize(
    ("token", "provider"),
    [(f'"{TOKEN}"\n', "replicate"), ("'your-token'", "placeholder")],
    ids=["token", "example"],
)
def test_a_token_in_quotes_selects_replicate(
    token: str, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A placeholder in quotes does not."""
    monkeypatch.setenv("REPLICATE_API_TOKEN", token)

    assert read(Settings).provider == provider


def test_an_env_file_with_a_byte_order_mark_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its first setting would have another name."""
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfHOLDER_TOKEN=" + TOKEN.encode() + b"\r\n")
    monkeypatch.chdir(tmp_path)

    assert secret(read(Holder).holder_token) == TOKEN


def test_credentials_are_removed_from_messages_of_libraries() -> None:
    """They are logged, and shown by doctor."""
    message = "cannot connect to amqp://user:C4n/4ry@host:5672// with Bearer C4n and whsec_C4n"

    assert without_credentials(message) == (
        "cannot connect to amqp://***host:5672// with Bearer *** and ***"
    )
