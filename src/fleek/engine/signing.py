"""How webhooks are signed, and how the secrets for it are kept.

Source: Standard Webhooks 1.0, https://www.standardwebhooks.com.
"""

import base64
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

from fleek.domain.errors import ConfigurationError

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
SEALED: Final = "aes256gcm:"  # then nonce, ciphertext and tag in Base64
PLAIN: Final = PREFIX
NONCE_BYTES: Final = 12


def new_secret() -> str:
    """Return a new signing secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(
    message_id: str, body: bytes, signing_secrets: Sequence[str], *, now: datetime
) -> Mapping[str, str]:
    """Return the headers of one attempt: it is signed with each of the secrets."""
    timestamp = str(int(now.timestamp()))
    content = f"{message_id}.{timestamp}.".encode() + body
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, content) for secret in signing_secrets),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return f"v1,{base64.b64encode(hmac.digest(key, content, sha256)).decode()}"


class SecretBox:
    """Encrypts what is stored, with AES-256-GCM.

    Args:
        keys: The first one encrypts, all decrypt; without one, secrets are stored as they are.
    """

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = keys

    def seal(self, secret: str, *, owner: str) -> str:
        """Return a secret as it is stored; it can be read for this owner only."""
        if not self._keys:
            return secret
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - heavy

        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = AESGCM(self._keys[0]).encrypt(nonce, secret.encode(), owner.encode())
        return SEALED + base64.b64encode(nonce + sealed).decode()

    def open(self, stored: str, *, owner: str) -> str:
        """Return the secret that was stored for an owner.

        Raises:
            ConfigurationError: No key reads it.
        """
        if not stored.startswith(SEALED):
            return stored
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - heavy
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - heavy

        data = base64.b64decode(stored.removeprefix(SEALED))
        for key in self._keys:
            try:
                opened = AESGCM(key).decrypt(
                    data[:NONCE_BYTES], data[NONCE_BYTES:], owner.encode()
                )
            except InvalidTag:
                continue
            return opened.decode()
        raise ConfigurationError(
            "MASTER_KEY: a stored secret cannot be decrypted; set the key that it was stored with"
        )
