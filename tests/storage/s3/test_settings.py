"""Settings with the names that users of S3, R2 and MinIO know, and refused values."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from fleek.domain.errors import ConfigurationError
from fleek.environment import read
from fleek.storage.s3 import S3Settings

KEYS = {"S3_ACCESS_KEY_ID": "AKIA1", "S3_SECRET_ACCESS_KEY": "hush-hush"}
ACCOUNT = "0123456789abcdef0123456789abcdef"


def settings(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> S3Settings:
    """Read the settings from this environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read(S3Settings)


@pytest.mark.parametrize("family", ["S3", "R2", "AWS"])
def test_keys_are_read_under_every_name(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """Variables that exist already need not be repeated."""
    names = {"ACCESS_KEY_ID": "AKIA1", "SECRET_ACCESS_KEY": "hush", "REGION": "eu-1"}
    environment = {f"{family}_{name}": value for name, value in names.items()}

    found = settings(monkeypatch, {"S3_BUCKET": "media", **environment})

    assert found.s3_access_key_id == "AKIA1"
    assert found.s3_secret_access_key is not None
    assert found.s3_secret_access_key.get_secret_value() == "hush"
    assert found.region == "eu-1"


def test_the_s3_names_take_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other keys of the machine do not interfere."""
    found = settings(
        monkeypatch,
        {"S3_BUCKET": "ours", "AWS_S3_BUCKET": "theirs", **KEYS, "AWS_ACCESS_KEY_ID": "theirs"},
    )

    assert (found.s3_bucket, found.s3_access_key_id) == ("ours", "AKIA1")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"AWS_ACCESS_KEY_ID": "ASIA1", "AWS_SECRET_ACCESS_KEY": "hush"}, "of-aws"),
        (KEYS, None),
        ({**KEYS, "S3_SESSION_TOKEN": "of-s3"}, "of-s3"),
    ],
    ids=["theirs", "ours", "ours with a token"],
)
def test_a_session_token_belongs_to_its_key(
    monkeypatch: pytest.MonkeyPatch, keys: Mapping[str, str], expected: str | None
) -> None:
    """S3 refuses a token with another key."""
    found = settings(monkeypatch, {"S3_BUCKET": "media", "AWS_SESSION_TOKEN": "of-aws", **keys})

    token = found.session_token
    assert (token and token.get_secret_value()) == expected


def test_amazon_needs_only_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's role supplies the keys."""
    found = settings(monkeypatch, {"S3_BUCKET": "media"})

    assert (found.endpoint, found.region, found.s3_access_key_id) == (None, "us-east-1", None)
    assert (found.s3_url_expiry, found.media_proxy) == (timedelta(hours=1), False)


def test_a_cloudflare_account_gives_endpoint_and_region(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its console shows nothing else."""
    found = settings(monkeypatch, {"R2_BUCKET": "media", "R2_ACCOUNT_ID": ACCOUNT})

    assert found.endpoint == f"https://{ACCOUNT}.r2.cloudflarestorage.com"
    assert found.region == "auto"


def test_an_endpoint_overrides_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets in a jurisdiction have their own endpoint."""
    endpoint = f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com"

    found = settings(
        monkeypatch,
        {"R2_BUCKET": "media", "R2_ACCOUNT_ID": ACCOUNT, "S3_ENDPOINT_URL": f"{endpoint}/"},
    )

    assert found.endpoint == endpoint


WRONG = {
    "no bucket": ({"S3_BUCKET": ""}, "S3_BUCKET"),
    "an address for a bucket": ({"S3_BUCKET": "s3://media"}, "S3_BUCKET"),
    "a path for a bucket": ({"S3_BUCKET": "media/pictures"}, "S3_BUCKET"),
    "half a pair of keys": ({"S3_ACCESS_KEY_ID": "AKIA1"}, "S3_SECRET_ACCESS_KEY"),
    "the other half": ({"S3_SECRET_ACCESS_KEY": "hush-hush"}, "S3_ACCESS_KEY_ID"),
    "a host for an endpoint": ({"S3_ENDPOINT_URL": "minio:9000"}, "S3_ENDPOINT_URL"),
    "keys in an endpoint": ({"S3_ENDPOINT_URL": "http://me:hush-hush@minio"}, "S3_ENDPOINT_URL"),
    "a query in a public address": ({"S3_PUBLIC_URL": "https://cdn.example/?x"}, "S3_PUBLIC_URL"),
    "an account that is none": ({"R2_ACCOUNT_ID": "evil.example/"}, "R2_ACCOUNT_ID"),
    "no expiry": ({"S3_URL_EXPIRY": "0"}, "S3_URL_EXPIRY"),
    "an expiry that S3 refuses": ({"S3_URL_EXPIRY": "604801"}, "S3_URL_EXPIRY"),
    "no time": ({"S3_TIMEOUT": "0"}, "S3_TIMEOUT"),
}


@pytest.mark.parametrize(("environment", "named"), WRONG.values(), ids=WRONG.keys())
def test_an_invalid_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], named: str
) -> None:
    """One line with the setting, but never with its value."""
    with pytest.raises(ConfigurationError, match=named) as caught:
        settings(monkeypatch, {"S3_BUCKET": "media", **environment})

    assert "hush-hush" not in str(caught.value)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are logged."""
    found = settings(monkeypatch, {"S3_BUCKET": "media", **KEYS, "S3_SESSION_TOKEN": "hush-token"})

    assert "hush" not in repr(found)
