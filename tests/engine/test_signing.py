"""Signatures of webhooks, checked by the verifiers that receivers use; storage of secrets."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from replicate.webhook import Webhooks, WebhookSigningSecret
from standardwebhooks import Webhook, WebhookVerificationError

from fleek.domain.errors import ConfigurationError
from fleek.engine.signing import PREFIX, SecretBox, headers, new_secret

BODY = '{"type":"job.completed","data":{"prompt":"Ein Fahrrad für die Katze"}}'.encode()
KEY, OTHER = bytes(32), bytes(range(32))


def signed(*secrets: str, at: datetime | None = None) -> dict[str, str]:
    """Return the headers of an attempt at this time."""
    return dict(headers("msg_1", BODY, secrets, now=at or datetime.now(UTC)))


def test_the_standard_webhooks_verifier_accepts_a_signature() -> None:
    """Receivers that follow the standard need no special code."""
    secret = new_secret()

    assert Webhook(secret).verify(BODY, signed(secret))


def test_the_replicate_verifier_accepts_a_signature() -> None:
    """Services written for Replicate's webhooks can verify these, too."""
    secret = new_secret()

    Webhooks.validate(
        headers=signed(secret), body=BODY.decode(), secret=WebhookSigningSecret(key=secret)
    )


def test_the_openai_verifier_accepts_a_signature() -> None:
    """Services written for OpenAI's webhooks can verify these, too."""
    from openai import OpenAI  # noqa: PLC0415 - takes half a second

    secret = new_secret()
    client = OpenAI(api_key="none", webhook_secret=secret)

    client.webhooks.verify_signature(BODY, signed(secret))


def test_both_secrets_are_accepted_during_a_rotation() -> None:
    """A receiver may switch at any time while the old secret is valid."""
    old, new = new_secret(), new_secret()

    sent = signed(new, old)

    assert Webhook(old).verify(BODY, sent)
    assert Webhook(new).verify(BODY, sent)


def test_modified_or_old_bodies_are_refused() -> None:
    """Otherwise a signature would prove nothing."""
    secret = new_secret()
    late = signed(secret, at=datetime.now(UTC) - timedelta(hours=1))

    for sent, body in [(signed(new_secret()), BODY), (signed(secret), BODY + b" "), (late, BODY)]:
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, sent)


def test_a_secret_has_the_form_and_the_strength_of_the_standard() -> None:
    """It has 24 to 64 random bytes."""
    secret = new_secret()

    assert secret.startswith(PREFIX)
    assert len(base64.b64decode(secret.removeprefix(PREFIX), validate=True)) == 32
    assert new_secret() != secret


def test_a_stored_secret_needs_its_key_and_its_owner() -> None:
    """A copy of the database or of a row is not enough."""
    secret = new_secret()
    stored = SecretBox([KEY]).seal(secret, owner="endpoint:1")

    assert secret not in stored
    assert SecretBox([OTHER, KEY]).open(stored, owner="endpoint:1") == secret
    for box, owner in [(SecretBox([OTHER]), "endpoint:1"), (SecretBox([KEY]), "endpoint:2")]:
        with pytest.raises(ConfigurationError, match="MASTER_KEY"):
            box.open(stored, owner=owner)


def test_a_secret_from_before_the_key_can_be_read() -> None:
    """The master key may be set at any time."""
    secret = new_secret()

    assert SecretBox([KEY]).open(SecretBox().seal(secret, owner="x"), owner="x") == secret
