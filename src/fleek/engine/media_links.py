"""Signed addresses of files: once callers need keys, whoever has such an address may read that file.

So a browser shows a picture by the `result_url` of a job, for an hour, although it sends no key.
"""

import hmac
from base64 import urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog

from fleek.domain.errors import ConfigurationError
from fleek.engine import signing
from fleek.engine.access import keys_required
from fleek.store import endpoints

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime

log = structlog.get_logger(__name__)

OWNER: Final = "media"  # of the secret
RETRY_SECONDS: Final = 60.0  # after the secret could not be decrypted
LIFETIME: Final = 3600  # seconds, at least
STEP: Final = 600  # seconds for which an address stays the same, so that a browser's cache helps


async def prepare(rt: "Runtime") -> None:
    """Have the secret at hand if callers need keys; it is created by the first process that needs it.

    If no `MASTER_KEY` of this process decrypts it, addresses are not signed: files need a key then.

    Raises:
        DatabaseUnavailable: It cannot be read.
    """
    keys, now = rt.keys, rt.steady()
    if keys.media_secret is not None or now < keys.media_secret_after:
        return
    if not await keys_required(rt):
        return
    stored = await endpoints.secrets(rt.db, OWNER, now=rt.now())
    if not stored:
        sealed = rt.secret_box.seal(signing.new_secret(), owner=OWNER)
        await endpoints.first_secret(rt.db, OWNER, sealed, now=rt.now())
        stored = await endpoints.secrets(rt.db, OWNER, now=rt.now())
    try:
        keys.media_secret = rt.secret_box.open(stored[0], owner=OWNER).encode()
    except ConfigurationError as error:
        keys.media_secret_after = now + RETRY_SECONDS
        log.warning("media_secret_unreadable", reason=str(error))


def query(secret: bytes | None, name: str, *, now: datetime) -> str:
    """Return what makes the address of a file a signed one; without a secret, nothing."""
    if secret is None:
        return ""
    expiry = (int(now.timestamp()) // STEP + 1) * STEP + LIFETIME
    return f"?exp={expiry}&sig={_signature(secret, name, str(expiry))}"


def is_valid(
    secret: bytes | None, name: str, expiry: str, signature: str, *, now: datetime
) -> bool:
    """Whether a signature is ours, and its time is not over."""
    if secret is None:
        return False
    expected = _signature(secret, name, expiry)
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        return False
    return now.timestamp() < int(expiry)  # digits: we have signed it


def _signature(secret: bytes, name: str, expiry: str) -> str:
    mac = hmac.digest(secret, f"{name}\n{expiry}".encode(), sha256)
    return urlsafe_b64encode(mac).decode().rstrip("=")
