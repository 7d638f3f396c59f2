"""Predictions from their start to their end: what runs at the server, and what it answered."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fleek.domain.errors import OutcomeUnknown, ProviderUnavailable
from fleek.domain.job import PredictionId
from fleek.providers.base import Prediction
from fleek.providers.cog.answers import lost
from fleek.providers.cog.open_connections import OpenConnections, ResultCache
from fleek.providers.cog.wire import ANSWER_SECONDS, Wire

LOOKS_AT_ONCE: Final = 16
FIRST_SIGN_SECONDS: Final = 0.02  # before asking whether a held prediction runs


class Runs:
    """The predictions of one server, each by the id that we gave it.

    Args:
        wire: The server.
        patience_seconds: How long the answer of a prediction that runs no more is waited for.
        called_back: Whether the server knows where to send answers.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        patience_seconds: float,
        called_back: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wire = wire
        self._patience = patience_seconds
        self._called_back = called_back
        self._clock = clock
        self._gone: dict[PredictionId, float] = {}  # since when it runs no more
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._answers = ResultCache(clock)
        self.held = OpenConnections(self._answers)

    def known(self, prediction_id: PredictionId) -> Prediction | None:
        """Return a prediction that has ended or is held, or None: it may be started."""
        running = Prediction(id=prediction_id) if prediction_id in self.held else None
        return self._answers.get(prediction_id) or running

    async def order(self, prediction_id: PredictionId, body: Mapping[str, Any]) -> Prediction:
        """Start one whose answer will be sent to the address in `body`.

        Raises:
            ProviderRejected, ProviderUnavailable, OutcomeUnknown: As `Provider.start`.
        """
        self._gone.pop(prediction_id, None)
        return self._kept(await self._wire.order(prediction_id, body))

    async def hold(self, prediction_id: PredictionId, body: Mapping[str, Any]) -> Prediction:
        """Start one over a connection that stays open; returns once it is known to run.

        Raises:
            ProviderRejected, ProviderUnavailable, OutcomeUnknown: As `Provider.start`.
        """
        self._gone.pop(prediction_id, None)
        task = self.held.open(prediction_id, self._wire.hold(prediction_id, body))
        until = self._clock() + ANSWER_SECONDS
        wait = FIRST_SIGN_SECONDS
        try:
            while self._clock() < until:
                await asyncio.wait({task}, timeout=wait)
                seen = None if task.done() else await self._sign(prediction_id)
                if task.done():
                    return task.result()
                if seen is not None:
                    return self._kept(seen)
                wait = min(wait * 2, 1.0)
        except asyncio.CancelledError:
            self.held.drop(prediction_id)
            raise
        self.held.drop(prediction_id)
        raise OutcomeUnknown("the Cog server does not say whether the prediction runs")

    async def look(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Look at predictions; one that runs no more and gave no answer in time has failed.

        Raises:
            ProviderUnavailable: None of them can be seen now.
        """
        looks = await asyncio.gather(*map(self._seen, ids), return_exceptions=True)
        seen: dict[PredictionId, Prediction] = {}
        failures = []
        for look in looks:
            if isinstance(look, Prediction):
                seen[look.id] = look
            elif isinstance(look, ProviderUnavailable):
                failures.append(look)
            else:
                raise look
        if failures and not seen:
            raise failures[0]
        return seen

    async def stop(self, prediction_id: PredictionId) -> None:
        """Ask the server to stop one.

        Raises:
            ProviderUnavailable: It cannot be asked now.
        """
        if not await self._wire.stop(prediction_id):
            self._gone[prediction_id] = float("-inf")  # no answer is worth waiting for

    async def close(self) -> None:
        """Close the connections that are held, which stops their predictions."""
        await self.held.close()

    async def _sign(self, prediction_id: PredictionId) -> Prediction | None:
        """Return a prediction that runs, or None if it is not seen to."""
        try:
            return await self._wire.look(prediction_id)
        except ProviderUnavailable:
            return None

    async def _seen(self, prediction_id: PredictionId) -> Prediction:
        known = self._answers.get(prediction_id)
        if known is not None:
            return known
        async with self._looks:
            seen = await self._wire.look(prediction_id)
        if seen is not None:
            self._gone.pop(prediction_id, None)
            return self._kept(seen)
        return self._answers.get(prediction_id) or self._awaited(prediction_id)

    def _awaited(self, prediction_id: PredictionId) -> Prediction:
        """Return what there is to say of a prediction that runs no more and gave no answer."""
        since = self._gone.setdefault(prediction_id, self._clock())
        may_come = self._called_back or prediction_id in self.held
        patience = self._patience if may_come else 0.0
        if self._clock() - since < patience:
            return Prediction(id=prediction_id)
        self.held.drop(prediction_id)
        del self._gone[prediction_id]
        end = lost(prediction_id)
        self._answers.keep(end)
        return end

    def _kept(self, prediction: Prediction) -> Prediction:
        self._answers.keep(prediction)
        return self._answers.get(prediction.id) or prediction
