"""Webhook messages: a body, and the three headers that sign it.

Source: the Standard Webhooks specification, https://www.standardwebhooks.com.
"""

import base64
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from fleek.emulator.account import Account
from fleek.emulator.predictions import Prediction
from fleek.emulator.serializers import encode

WRONG_SECRET: Final = "whsec_" + base64.b64encode(b"not the secret of this account").decode()


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """One message. Each try is signed anew; id and body stay."""

    id: str
    body: bytes
    secret: str
    skew: float = 0.0  # seconds to add to the timestamp
    bare: bool = False  # without its headers
    stamp: float | None = None  # when it was signed, once and for all; None: at each try

    def headers(self, now: float) -> dict[str, str]:
        """Sign it, as of `now` unless it is signed already."""
        plain = {"content-type": "application/json", "user-agent": "Replicate/1.0"}
        if self.bare:
            return plain
        timestamp = str(int((now if self.stamp is None else self.stamp) + self.skew))
        return plain | {
            "webhook-id": self.id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(self.secret, self.id, timestamp, self.body),
        }


def sign(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """Give the signature of a message: `v1,` and an HMAC-SHA256 in base 64."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, sha256)).decode()


def write(account: Account, prediction: Prediction, faults: Mapping[str, str]) -> WebhookMessage:
    """Build the message of a prediction's current state, with the given faults."""
    shown = prediction
    if "hook_wrong_body" in faults:
        shown = account.predictions[prediction.seq - 1]
    view = account.show(shown)
    if "hook_huge" in faults:
        view["logs"] = "x" * int(float(faults["hook_huge"]) * 1e6)
    body = encode(view)
    if "hook_not_utf8" in faults:
        body = b"\xff\xfe" + body[1:]
    return WebhookMessage(
        id="msg_" + secrets.token_hex(13),
        body=body,
        secret=WRONG_SECRET if "hook_wrong_signature" in faults else account.secret,
        skew=account.plan.clock_offset_seconds
        + float(faults.get("hook_future_timestamp", 0))
        - float(faults.get("hook_old_timestamp", 0)),
        bare="hook_missing_headers" in faults,
    )
