"""Callbacks from fal: verification of signature and age, and their content.

Source: https://docs.fal.ai/model-apis/model-endpoints/webhooks. The signature is Ed25519 over the lines
request id, user id, timestamp, SHA-256 of the body in hex; the keys are a JSON Web Key Set (RFC 8037).
"""

import asyncio
import base64
import binascii
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fleek.domain.errors import CallbackRejected, ProviderUnavailable
from fleek.providers.fal.wire import NAME, read_request_id
from fleek.providers.foreign_json import NotJson, parse_aside
from fleek.providers.http import Answer, Api, raise_for_read, read_errors

TOLERANCE: Final = timedelta(minutes=5)  # in both directions
MAX_KEYS: Final = 16
MAX_SET_BYTES: Final = 65_536
REFRESH_SECONDS: Final = 60.0  # minimum time between two requests for the keys
KEPT_SECONDS: Final = 86_400.0  # as fal advises

_HEADER: Final = re.compile(r"[!-~]{1,256}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,11}")
_SIGNATURE: Final = re.compile(r"[0-9a-fA-F]{128}")

log = structlog.get_logger(__name__)


class Signatures:
    """Verifies callbacks with fal's public keys.

    Args:
        keys: For reading the keys.
        times: Return the time by several clocks; a callback has to be recent by one of them.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        keys: Api,
        *,
        times: Callable[[], list[datetime]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = keys
        self._times = times
        self._clock = clock
        self._keys: tuple[Ed25519PublicKey, ...] = ()
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def read(self, headers: Mapping[str, str], body: bytes) -> str:
        """Verify a callback, and return the id of its request.

        Raises:
            CallbackRejected: Its signature or its age is wrong, or it cannot be read.
            ProviderUnavailable: The keys are unknown, and cannot be read now.
        """
        by_name = {name.lower(): value for name, value in headers.items()}
        named = _header(by_name, "request-id", _HEADER)
        user = _header(by_name, "user-id", _HEADER)
        stamp = _header(by_name, "timestamp", _TIMESTAMP)
        signature = bytes.fromhex(_header(by_name, "signature", _SIGNATURE))
        digest = await asyncio.to_thread(lambda: sha256(body).hexdigest())
        signed = f"{named}\n{user}\n{stamp}\n{digest}".encode()
        if self._clock() - self._read_at > KEPT_SECONDS or not self._signs(signed, signature):
            await self._refresh()
            if not self._signs(signed, signature):
                raise CallbackRejected("the callback's signature is wrong")
        self._check_age(datetime.fromtimestamp(int(stamp), UTC))
        return await _request_id(named, body)

    def _signs(self, signed: bytes, signature: bytes) -> bool:
        return any(_verifies(key, signature, signed) for key in self._keys)

    def _check_age(self, sent: datetime) -> None:
        """Raise if a callback is too old, or from the future."""
        apart = min((sent - now for now in self._times()), key=abs)
        if abs(apart) > TOLERANCE:
            seconds = round(apart.total_seconds())
            log.warning(
                "callback_not_fresh", seconds=seconds, advice="see the clock in fleek doctor"
            )
            raise CallbackRejected("the callback is too old, or from the future")

    async def _refresh(self) -> None:
        """Read the keys, if they are unknown or may have been changed."""
        async with self._lock:
            if self._keys and self._clock() - self._asked_at < REFRESH_SECONDS:
                return
            self._asked_at = self._clock()
            try:
                found = await self._fetch()
            except ProviderUnavailable as error:
                if not self._keys:
                    raise
                log.warning("callback_keys_not_read", reason=str(error))
                return
            self._keys, self._read_at = found, self._clock()

    async def _fetch(self) -> tuple[Ed25519PublicKey, ...]:
        with read_errors(NAME):
            answer = await self._api.get("", most=MAX_SET_BYTES)
            raise_for_read(answer, NAME)
            keys = tuple(_public_keys(answer))
        if not keys:
            raise ProviderUnavailable("fal's response contains no key for signatures")
        return keys


def _verifies(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _header(headers: Mapping[str, str], name: str, form: re.Pattern[str]) -> str:
    value = headers.get(f"x-fal-webhook-{name}", "")
    if form.fullmatch(value) is None:
        raise CallbackRejected(f"the callback has no valid x-fal-webhook-{name}")
    return value


def _public_keys(answer: Answer) -> Iterator[Ed25519PublicKey]:
    """Yield the usable keys of a set; others are skipped.

    Raises:
        Unreadable: It is not a JSON object.
    """
    rows = answer.json().get("keys")
    for row in rows[:MAX_KEYS] if isinstance(rows, list) else ():
        if not isinstance(row, dict) or row.get("crv", "Ed25519") != "Ed25519":
            continue
        if row.get("use", "sig") != "sig":
            continue
        try:
            encoded = str(row.get("x")).encode("ascii")
            content = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), b"-_", validate=True)
            yield Ed25519PublicKey.from_public_bytes(content)
        except (binascii.Error, ValueError):  # not base64, not ASCII, or not 32 bytes
            continue


async def _request_id(named: str, body: bytes) -> str:
    """Return the id of the request that a body and its header name."""
    try:
        content: Any = await parse_aside(body)
    except NotJson as error:
        raise CallbackRejected("the callback is not JSON") from error
    request_id = read_request_id(content) if isinstance(content, dict) else None
    if request_id is None:
        raise CallbackRejected("the callback names no request")
    if named not in (request_id, content.get("gateway_request_id")):
        raise CallbackRejected("the callback's header names another request")
    return request_id
