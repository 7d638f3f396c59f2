"""Validation of a broker's address, with clearer messages than the libraries have."""

import re
from typing import Annotated, Final
from urllib.parse import SplitResult, quote, urlsplit

from pydantic import AfterValidator, SecretStr

from fleek.environment import cleaned

SCHEMES: Final = ("redis", "rediss", "unix")
REDIS: Final = "must be like redis://:password@host:6379/0; write / in the password as %2F"
ANY: Final = "must be like amqp://user:password@host:5672//; write / in the password as %2F"


def _redis(value: str) -> str:
    value = cleaned(value)
    parts = _split(value, REDIS)
    if parts.scheme not in SCHEMES:
        raise ValueError(REDIS)
    if parts.scheme != "unix" and not re.fullmatch("(/[0-9]*)?", parts.path):
        raise ValueError(REDIS)
    return value


def _any(value: str) -> str:
    value = cleaned(value)
    _split(value, ANY)
    return value


def _split(value: str, otherwise: str) -> SplitResult:
    """Split an address, without the original error, which may contain a part of the password."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError(otherwise) from None
    if "://" not in value or not value.isprintable():
        raise ValueError(otherwise)
    return parts


def with_password(address: str, password: SecretStr | None) -> str:
    """Return the address of a Redis server with a password, unless it has one already."""
    parts = urlsplit(address)
    if password is None or parts.password or parts.scheme == "unix":
        return address
    place = parts.netloc.rpartition("@")[2]
    user = f"{parts.username or ''}:{quote(password.get_secret_value(), safe='')}"
    return parts._replace(netloc=f"{user}@{place}").geturl()


RedisAddress = Annotated[str, AfterValidator(_redis)]
"""The address of a Redis server."""

BrokerAddress = Annotated[str, AfterValidator(_any)]
"""The address of any broker."""
