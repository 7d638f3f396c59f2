"""Callbacks from Replicate: verification of signature and age, and their content.

Source: the Standard Webhooks specification, https://www.standardwebhooks.com, and
https://replicate.com/docs/topics/webhooks/verify-webhook. The tests compare this module with the
library `standardwebhooks`. It is not used here, as it supports a single secret and the system's
clock only, and raises ValueError for a malformed signature even if a valid one follows.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from fleek.domain.errors import CallbackRejected, ProviderUnavailable
from fleek.providers.base import Callback
from fleek.providers.foreign_json import NotJson, parse_aside
from fleek.providers.http import Api, raise_for_read, read_errors
from fleek.providers.replicate.wire import NAME, read_prediction

MAX_SIGNATURES: Final = 16  # that are checked; several occur only during a change of the secret
TOLERANCE: Final = timedelta(minutes=5)  # in both directions
SECRETS_KEPT: Final = 2  # so that callbacks signed before a change are still accepted
REFRESH_SECONDS: Final = 60.0  # minimum time between two requests for the secret

_WEBHOOK_ID: Final = re.compile(r"[!-~]{1,256}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,11}")

log = structlog.get_logger(__name__)


def read_secret(text: str) -> bytes:
    """Return the key in a secret of the form ``whsec_`` and base64.

    Raises:
        ValueError: It has another form.
    """
    encoded = text.strip().removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError as error:  # not base64, or not even ASCII
        raise ValueError("must be whsec_ followed by base64") from error
    if not key:
        raise ValueError("must not be empty")
    return key


class Signatures:
    """Verifies callbacks with the account's secret.

    Args:
        api: For reading the secret.
        keys: The configured keys; if there are any, the secret is not read.
        now: Returns the time by Replicate's clock, which dates the callbacks, if it is available.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        api: Api,
        *,
        keys: Sequence[bytes],
        now: Callable[[], Awaitable[datetime]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._keys = list(keys)
        self._fixed = bool(keys)
        self._now = now
        self._clock = clock
        self._asked_at: float | None = None
        self._lock = asyncio.Lock()

    async def read(self, headers: Mapping[str, str], body: bytes) -> Callback:
        """Verify a callback and return its content.

        Raises:
            CallbackRejected: Its signature or its age is wrong, or it cannot be read.
            ProviderUnavailable: The secret is unknown, and cannot be read now.
        """
        by_name = {name.lower(): value for name, value in headers.items()}
        webhook_id = by_name.get("webhook-id", "")
        if not _WEBHOOK_ID.fullmatch(webhook_id):
            raise CallbackRejected("the callback has no valid webhook-id")
        stamp = by_name.get("webhook-timestamp", "")
        if not _TIMESTAMP.fullmatch(stamp):
            raise CallbackRejected("the callback has no valid webhook-timestamp")
        signed = f"{webhook_id}.{stamp}.".encode(), body
        signatures = list(_signatures(by_name.get("webhook-signature", "")))
        if not await asyncio.to_thread(self._signs, signed, signatures):
            await self._refresh()
            if not await asyncio.to_thread(self._signs, signed, signatures):
                raise CallbackRejected("the callback's signature is wrong")
        self._check_age(datetime.fromtimestamp(int(stamp), UTC), now=await self._now())
        return await _callback(webhook_id, body)

    def _check_age(self, sent: datetime, *, now: datetime) -> None:
        """Raise if a callback is too old or from the future."""
        if abs(sent - now) > TOLERANCE:
            apart = round((sent - now).total_seconds())
            log.warning(
                "callback_not_fresh", seconds=apart, advice="see the clock in fleek doctor"
            )
            raise CallbackRejected("the callback is too old, or from the future")

    def _signs(self, signed: Sequence[bytes], signatures: Sequence[bytes]) -> bool:
        expected = [_signature(key, signed) for key in self._keys]
        return any(
            hmac.compare_digest(ours, signature) for ours in expected for signature in signatures
        )

    async def _refresh(self) -> None:
        """Read the secret, if it is unknown or may have been changed."""
        if self._fixed:
            return
        async with self._lock:
            recent = self._asked_at is not None and (
                self._clock() - self._asked_at < REFRESH_SECONDS
            )
            if recent and self._keys:
                return
            self._asked_at = self._clock()
            try:
                key = await self._fetch()
            except ProviderUnavailable:
                if self._keys:
                    return
                raise
            self._keys = [key, *(known for known in self._keys if known != key)][:SECRETS_KEPT]

    async def _fetch(self) -> bytes:
        with read_errors(NAME):
            answer = await self._api.get("/webhooks/default/secret")
            raise_for_read(answer, NAME)
            try:
                return read_secret(str(answer.json().get("key")))
            except ValueError as error:
                raise ProviderUnavailable("Replicate's response contains no secret") from error


def _signature(key: bytes, signed: Sequence[bytes]) -> bytes:
    signing = hmac.new(key, digestmod=hashlib.sha256)
    for part in signed:
        signing.update(part)  # releases the GIL
    return signing.digest()


def _signatures(header: str) -> Iterator[bytes]:
    for part in header.split(" ", MAX_SIGNATURES)[:MAX_SIGNATURES]:
        version, _, encoded = part.partition(",")
        if version == "v1":
            try:
                yield base64.b64decode(encoded, validate=True)
            except ValueError:  # not base64, or not even ASCII
                continue


async def _callback(webhook_id: str, body: bytes) -> Callback:
    try:
        content: Any = await parse_aside(body)
    except NotJson as error:
        raise CallbackRejected("the callback is not JSON") from error
    prediction = (
        await asyncio.to_thread(read_prediction, content) if isinstance(content, dict) else None
    )
    if prediction is None:
        raise CallbackRejected("the callback names no prediction")
    address = content.get("webhook")
    return Callback(
        webhook_id=webhook_id,
        prediction=prediction,
        begun=prediction.outcome is None,
        address=address if isinstance(address, str) else None,
    )
