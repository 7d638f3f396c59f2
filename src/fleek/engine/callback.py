"""Callbacks of providers: a reason to poll now, and the surest way to find a lost prediction."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final
from uuid import UUID

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import NotFound, TooLarge
from fleek.domain.job import AttemptId, PredictionId
from fleek.engine.accounts import account_of
from fleek.engine.conclude import conclude
from fleek.engine.runtime import Runtime
from fleek.engine.start import bind
from fleek.providers.base import (
    Callback,
    Prediction,
    Provider,
    SupportsCallbacks,
    SupportsOversizedCallbacks,
    SupportsShortCallbacks,
)
from fleek.store import attempts

UNKNOWN: Final = "there is no such callback address"

log = structlog.get_logger(__name__)


async def receive(
    rt: Runtime,
    name: str,
    token: str,
    *,
    headers: Mapping[str, str],
    read: Callable[[], Awaitable[bytes]],
) -> None:
    """Act on a provider's callback; the same one may come again, late, or out of order.

    Its content is read again from the provider before it counts, unless the provider cannot be
    asked. `read` gives the body; it is not called for a wrong token.

    Raises:
        NotFound: No attempt has this token, or the provider is not configured or sends none.
        CallbackRejected: The provider did not send this.
        ProviderUnavailable: The signature cannot be checked now.
        TooLarge: The body is too large; the prediction is polled instead.
    """
    provider = rt.providers.get(name)
    if provider is None or not isinstance(provider, SupportsCallbacks):
        raise NotFound(UNKNOWN)
    attempt = await _attempt(rt, name, token)
    account = account_of(rt, name, attempt.account).provider
    assert isinstance(account, SupportsCallbacks)
    try:
        body = await read()
    except TooLarge:
        await _look_instead(rt, provider, account, attempt)
        raise
    callback = _complete(provider, attempt, await account.callback(headers, body))
    failpoints.hit("callback.verified")
    prediction_id = callback.prediction.id
    if not _is_for(callback, attempt, token):
        log.warning("callback_not_ours", attempt_id=str(attempt.id), prediction_id=prediction_id)
        return
    if attempt.prediction_id is None:
        await _adopt(rt, attempt, prediction_id)
    if attempt.verdict is None and not callback.begun:
        await _look(rt, account, attempt, callback)


def _complete(provider: Provider, attempt: Attempt, callback: Callback) -> Callback:
    """Return a callback with the whole id of its prediction."""
    if not isinstance(provider, SupportsShortCallbacks):
        return callback
    prediction = callback.prediction
    whole = provider.named_in_callback(attempt, prediction.id)
    return replace(callback, prediction=replace(prediction, id=whole))


def _is_for(callback: Callback, attempt: Attempt, token: str) -> bool:
    """Whether a callback was sent to this address, about this attempt's prediction."""
    if callback.address is not None and not callback.address.endswith(f"/{token}"):
        return False
    return attempt.prediction_id in {None, callback.prediction.id}


async def _look_instead(
    rt: Runtime, provider: Provider, account: Provider, attempt: Attempt
) -> None:
    """Poll a prediction whose callback is too large to be read."""
    if attempt.prediction_id is None or attempt.verdict is not None:
        return
    if isinstance(provider, SupportsOversizedCallbacks):
        seen: Prediction | None = provider.overlong(attempt.prediction_id)
    else:
        seen = (await account.poll([attempt.prediction_id])).get(attempt.prediction_id)
    if seen is not None and seen.outcome is not None:
        await conclude(rt, attempt, seen)


async def _adopt(rt: Runtime, attempt: Attempt, prediction_id: PredictionId) -> None:
    """Bind a prediction whose creation was not confirmed; one that is found too late is cancelled."""
    if attempt.verdict is None:
        rt.metrics.adopted.labels("callback").inc()
        log.info(
            "prediction_adopted",
            attempt_id=str(attempt.id),
            prediction_id=prediction_id,
            by="callback",
        )
    failpoints.hit("callback.adopt")
    await bind(rt, attempt, Prediction(id=prediction_id))


async def _attempt(rt: Runtime, name: str, token: str) -> Attempt:
    """Return the attempt that a token belongs to; all wrong tokens get the same answer."""
    given, _, nonce = token.partition(".")
    try:
        attempt_id = AttemptId(UUID(given))
    except ValueError:
        raise NotFound(UNKNOWN) from None
    attempt = await attempts.get(rt.db, attempt_id)
    expected = "" if attempt is None else attempt.nonce
    if not hmac.compare_digest(nonce.encode(), expected.encode()):
        raise NotFound(UNKNOWN)
    if attempt is None or attempt.provider != name:
        raise NotFound(UNKNOWN)
    return attempt


async def _look(rt: Runtime, account: Provider, attempt: Attempt, callback: Callback) -> None:
    """Conclude the prediction if it has ended, by the provider's own word."""
    seen: Prediction | None = callback.prediction
    if not callback.final:
        seen = (await account.poll([callback.prediction.id])).get(callback.prediction.id)
    if seen is not None and seen.outcome is not None:
        await conclude(rt, attempt, seen)
