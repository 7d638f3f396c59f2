"""The signatures of callbacks, Ed25519, and the set of their public keys."""

import base64
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

USER: Final = "emulator|user"


@lru_cache(maxsize=8)
def _key(seed: object) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(f"webhook key {seed}".encode()).digest())


def sign(
    prediction_id: str, timestamp: str, body: bytes, *, seed: int, forged: bool
) -> Mapping[str, str]:
    """Return the headers of a callback's signature."""
    key = _key(f"other than {seed}" if forged else seed)
    signed = "\n".join([prediction_id, USER, timestamp, sha256(body).hexdigest()])
    return {
        "x-fal-webhook-request-id": prediction_id,
        "x-fal-webhook-user-id": USER,
        "x-fal-webhook-timestamp": timestamp,
        "x-fal-webhook-signature": key.sign(signed.encode()).hex(),
    }


def key_set(seed: int) -> dict[str, Any]:
    """Return the public keys as a JSON Web Key Set."""
    content = _key(seed).public_key().public_bytes_raw()
    x = base64.urlsafe_b64encode(content).rstrip(b"=").decode()
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "1", "x": x}]}
