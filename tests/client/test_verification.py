"""Webhooks are verified; the judge is the library of Standard Webhooks."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from fleek import ConfigurationError, InvalidSignature, verify_webhook
from fleek.engine.signing import headers, new_secret

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECRET = new_secret()


@pytest.fixture
def body(a_job: Callable[..., dict[str, Any]]) -> bytes:
    """Return the body of a webhook."""
    event = {"type": "job.completed", "timestamp": "2026-01-02T03:04:05Z"}
    return json.dumps({**event, "data": a_job("completed")}).encode()


def test_a_webhook_of_the_service_is_verified(body: bytes) -> None:
    """Also if the previous secret signs as well, and whatever the case of headers."""
    sent = headers("msg_1", body, [new_secret(), SECRET], now=NOW)

    event = verify_webhook(
        body, {name.title(): text for name, text in sent.items()}, SECRET, now=NOW
    )

    assert (event.id, event.type, event.timestamp) == ("msg_1", "job.completed", NOW)
    assert event.job is not None
    assert event.job.prompt == "a cat"


def test_what_the_library_signs_is_verified(body: bytes) -> None:
    """One with our signature could be wrong on both sides."""
    signature = Webhook(SECRET).sign("msg_1", NOW, body.decode())
    sent = {"webhook-id": "msg_1", "webhook-signature": signature}
    sent["webhook-timestamp"] = str(int(NOW.timestamp()))

    assert verify_webhook(body, sent, SECRET, now=NOW).id == "msg_1"


def test_a_test_is_about_no_job() -> None:
    """Its data is something else."""
    body = b'{"type":"webhook.test","timestamp":"2026-01-02T03:04:05Z","data":{"endpoint_id":"7"}}'

    event = verify_webhook(body, headers("msg_1", body, [SECRET], now=NOW), SECRET, now=NOW)

    assert (event.job, event.data) == (None, {"endpoint_id": "7"})


@pytest.mark.parametrize("shift", [timedelta(minutes=6), timedelta(minutes=-6)])
def test_an_old_signature_is_refused(body: bytes, shift: timedelta) -> None:
    """It may be a recording."""
    sent = headers("msg_1", body, [SECRET], now=NOW)

    with pytest.raises(InvalidSignature, match="old"):
        verify_webhook(body, sent, SECRET, now=NOW + shift)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-id": ""},
        {"webhook-timestamp": "1"},
        {"webhook-timestamp": "²"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": ""},
    ],
)
def test_anything_else_is_refused(body: bytes, change: dict[str, str]) -> None:
    """One answer for all: it tells an attacker nothing."""
    sent = {**headers("msg_1", body, [SECRET], now=NOW), **change}

    with pytest.raises(InvalidSignature):
        verify_webhook(body, sent, SECRET, now=NOW)
    with pytest.raises(InvalidSignature):
        verify_webhook(body + b" ", headers("msg_1", body, [SECRET], now=NOW), SECRET, now=NOW)


def test_a_secret_of_another_form_is_named() -> None:
    """It is our own mistake, not that of the sender."""
    with pytest.raises(ConfigurationError, match="whsec_"):
        verify_webhook(b"{}", {}, "whsec_é")
