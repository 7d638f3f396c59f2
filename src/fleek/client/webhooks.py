"""Verification of webhooks that a server has sent: Standard Webhooks 1.0.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fleek.client import wire
from fleek.client.errors import InvalidSignature
from fleek.client.models import JobRead
from fleek.domain.errors import ConfigurationError
from fleek.system_clock import wall_time

TOLERANCE: Final = timedelta(minutes=5)
"""How far the time of a signature may be from ours: an older one may be a recording."""
PREFIX: Final = "whsec_"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A verified webhook."""

    id: str  # the same for each delivery of one event: remember it to handle an event once
    type: str  # such as "job.completed"; "webhook.test": a test, which is about no job
    timestamp: datetime  # of the event
    job: JobRead | None  # as it was after the event; None: the event is about no job
    data: Mapping[str, Any]  # what the server sent about it


def verify_webhook(
    body: bytes, headers: Mapping[str, str], secret: str, *, now: datetime | None = None
) -> WebhookEvent:
    """Return the event that a request has brought, if it was signed with this secret.

    Args:
        body: The body of the request, to the byte.
        headers: Its headers, in upper or lower case.
        secret: That of the endpoint, or for a `webhook_url` of a job `Client.webhooks.secret()`.
        now: The time, which the signature may differ from by five minutes; default: this machine's.

    Raises:
        InvalidSignature: It was not, or is too old, or a header is missing. Answer with 400.
        ConfigurationError: The secret has another form than ``whsec_…``.
    """
    found = {name.lower(): value for name, value in headers.items()}
    message_id, sent = found.get("webhook-id", ""), found.get("webhook-timestamp", "")
    signed = f"{message_id}.{sent}.".encode() + body
    expected = base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256))
    given = [text.removeprefix("v1,") for text in found.get("webhook-signature", "").split()]
    good = [hmac.compare_digest(expected, text.encode()) for text in given]
    if not message_id or not any(good):
        raise InvalidSignature("the webhook is not signed with this secret")
    if abs((now or wall_time()) - _time(sent)) > TOLERANCE:
        raise InvalidSignature("the signature of the webhook is too old, or the clock is wrong")
    return _event(message_id, body)


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"the secret of webhooks must be {PREFIX}… in Base64") from None


def _time(text: str) -> datetime:
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    return datetime.fromtimestamp(seconds, UTC)


def _event(message_id: str, body: bytes) -> WebhookEvent:
    event = wire.mapping(json.loads(body))
    data = wire.mapping(event.get("data"))
    return WebhookEvent(
        id=message_id,
        type=str(event.get("type")),
        timestamp=datetime.fromisoformat(str(event.get("timestamp"))),
        job=wire.parse(JobRead, data) if str(event.get("type")).startswith("job.") else None,
        data=data,
    )
