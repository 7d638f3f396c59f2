"""A provider calls back: a reason to look now, and the surest way to find a lost purchase."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from uuid import UUID

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import NotFound, TooLarge
from fleek.domain.job import AttemptId, PredictionId
from fleek.engine.conclude import conclude
from fleek.engine.runtime import Runtime
from fleek.engine.start import bind
from fleek.providers.base import (
    Callback,
    Prediction,
    Provider,
    SupportsCallbacks,
    SupportsOversizedCallbacks,
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
    """Act on a provider's callback; the same one may come again, late, or in another order.

    What it says of the prediction is read again from the provider before it counts, unless the
    provider cannot be asked. `read` gives the body; it is not called for a wrong token.

    Raises:
        NotFound: No attempt has this token, or the provider is not configured or sends none.
        CallbackRejected: The provider did not send this.
        ProviderUnavailable: The signature cannot be checked now.
        TooLarge: So is the body. What it would have told is looked for at once.
    """
    provider = rt.providers.get(name)
    if provider is None or not isinstance(provider, SupportsCallbacks):
        raise NotFound(UNKNOWN)
    attempt = await _attempt(rt, name, token)
    try:
        body = await read()
    except TooLarge:
        await _look_instead(rt, provider, attempt)
        raise
    callback = await provider.callback(headers, body)
    failpoints.hit("callback.verified")
    told = callback.prediction
    if callback.address is not None and not callback.address.endswith(f"/{token}"):
        log.warning("callback_not_ours", attempt_id=str(attempt.id), prediction_id=told.id)
        return
    if attempt.prediction_id is None:
        await _adopt(rt, attempt, told.id)
    elif attempt.prediction_id != told.id:
        log.warning("callback_not_ours", attempt_id=str(attempt.id), prediction_id=told.id)
        return
    if attempt.verdict is None:
        await _look(rt, provider, attempt, callback)


async def _look_instead(rt: Runtime, provider: Provider, attempt: Attempt) -> None:
    """See what has become of a prediction whose callback is too large to be read."""
    if attempt.prediction_id is None or attempt.verdict is not None:
        return
    if isinstance(provider, SupportsOversizedCallbacks):
        seen: Prediction | None = provider.overlong(attempt.prediction_id)
    else:
        seen = (await provider.poll([attempt.prediction_id])).get(attempt.prediction_id)
    if seen is not None and seen.outcome is not None:
        await conclude(rt, attempt, seen)


async def _adopt(rt: Runtime, attempt: Attempt, prediction_id: PredictionId) -> None:
    """Bind what was bought although its answer got lost; what is found too late is stopped."""
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
    """Return the attempt that a token belongs to; any other token looks the same."""
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


async def _look(rt: Runtime, provider: Provider, attempt: Attempt, callback: Callback) -> None:
    """See for ourselves what has become of the prediction."""
    seen: Prediction | None = callback.prediction
    if not callback.final:
        seen = (await provider.poll([callback.prediction.id])).get(callback.prediction.id)
    if seen is not None and seen.outcome is not None:
        await conclude(rt, attempt, seen)
