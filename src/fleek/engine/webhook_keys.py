"""The key pair of the installation: it signs webhooks whose receivers verify them with a public key.

The seed is kept as the secrets of webhooks are; the first process that needs it makes it.
"""

import base64
from datetime import datetime
from hashlib import sha256
from typing import Final

from fleek.domain.webhooks import Delivery
from fleek.engine import signing
from fleek.engine.runtime import Runtime
from fleek.store import endpoints

OWNER: Final = "installation"  # of the seed


async def seed_of(rt: Runtime) -> str:
    """Return the secret that the private key is made from.

    Raises:
        ConfigurationError: It cannot be decrypted.
        DatabaseUnavailable: It cannot be read.
    """
    stored = await endpoints.secrets(rt.db, OWNER, now=rt.now())
    if not stored:
        sealed = rt.secret_box.seal(signing.new_secret(), owner=OWNER)
        await endpoints.first_secret(rt.db, OWNER, sealed, now=rt.now())
        stored = await endpoints.secrets(rt.db, OWNER, now=rt.now())
    return rt.secret_box.open(stored[0], owner=OWNER)


async def public_keys(rt: Runtime) -> list[dict[str, str]]:
    """Return the public keys that verify webhooks now, as a JSON Web Key Set holds them (RFC 8037)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - heavy
        Ed25519PrivateKey,
    )

    private = Ed25519PrivateKey.from_private_bytes(_seed(await seed_of(rt)))
    public = private.public_key().public_bytes_raw()
    encoded = base64.urlsafe_b64encode(public).decode().rstrip("=")
    key_id = sha256(public).hexdigest()[:16]
    return [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": key_id, "x": encoded}]


def sign(seed: str, content: bytes) -> bytes:
    """Return the Ed25519 signature of some content."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - heavy
        Ed25519PrivateKey,
    )

    return Ed25519PrivateKey.from_private_bytes(_seed(seed)).sign(content)


def headers(delivery: Delivery, seed: str, *, now: datetime, prefix: str) -> dict[str, str]:
    """Return the headers of one attempt: who and what it is about, when, and the signature of it all.

    It covers the id of the job, the tenant, the time and the SHA-256 of the body, a line each.
    """
    timestamp = str(int(now.timestamp()))
    request_id = str(delivery.job_id)
    digest = sha256(delivery.body).hexdigest()
    content = f"{request_id}\n{delivery.tenant_id}\n{timestamp}\n{digest}"
    return {
        "content-type": "application/json",
        f"{prefix}-request-id": request_id,
        f"{prefix}-user-id": delivery.tenant_id,
        f"{prefix}-timestamp": timestamp,
        f"{prefix}-signature": sign(seed, content.encode()).hex(),
    }


def _seed(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(signing.PREFIX))
