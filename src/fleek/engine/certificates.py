"""The certificate that outputs are signed with, read from the operator's files. Loaded if there is one."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from fleek.domain.errors import ConfigurationError
from fleek.engine.provenance import Signer
from fleek.system_clock import wall_time

MIN_RSA_BITS: Final = 2048
CURVES: Final = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}

log = structlog.get_logger(__name__)


def open_signer(certificates: Path, key: Path, *, seconds: float, fails_open: bool) -> Signer:
    """Read the files that outputs are signed with.

    Raises:
        ConfigurationError: They cannot be used, or the extra is not installed.
    """
    if find_spec("c2pa") is None:
        raise ConfigurationError("C2PA_CERTIFICATES: needs pip install 'fleek[c2pa]'")
    chain, private = _chain(certificates), _private_key(key)
    algorithm = _algorithm(private)
    if algorithm is None:
        raise ConfigurationError(
            "C2PA_PRIVATE_KEY: must be a key of Ed25519, of P-256, P-384 or P-521, or of RSA with "
            f"at least {MIN_RSA_BITS} bits"
        )
    if private.public_key() != chain[0].public_key():
        raise ConfigurationError("C2PA_PRIVATE_KEY: is not that of the first of C2PA_CERTIFICATES")
    if chain[0].not_valid_after_utc < wall_time():
        log.warning("signing_certificate_expired", expired_at=str(chain[0].not_valid_after_utc))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return Signer(
        "".join(one.public_bytes(pem).decode() for one in chain),
        private.private_bytes(pem, pkcs8, serialization.NoEncryption()).decode(),
        algorithm,
        seconds=seconds,
        fails_open=fails_open,
    )


def _chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        message = f"C2PA_CERTIFICATES: {path} must be a chain of certificates in PEM"
        raise ConfigurationError(message) from error


def _private_key(path: Path) -> Any:
    try:
        return serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:  # a TypeError if it is encrypted
        message = f"C2PA_PRIVATE_KEY: {path} must be a private key in PEM, without a password"
        raise ConfigurationError(message) from error


def _algorithm(key: Any) -> str | None:
    """Return C2PA's name of the algorithm of a key; None: it may not be used."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return CURVES.get(key.curve.name)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    strong = isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS
    return "ps256" if strong else None
