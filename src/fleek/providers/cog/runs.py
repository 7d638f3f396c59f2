"""The predictions of one server: start, poll, cancel, and a cache of their results.

The server forgets a prediction when it ends, and sends its result once: to the callback URL, or
over the connection that started it. Results that were received over a connection are kept here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog

from fleek.domain.errors import OutcomeUnknown, ProviderError, ProviderUnavailable
from fleek.domain.job import PredictionId
from fleek.providers.base import Prediction
from fleek.providers.cog.wire import ANSWER_SECONDS, Wire, lost

POLLS_AT_ONCE: Final = 16
FIRST_POLL_SECONDS: Final = 0.02  # after a blocking start
KEPT_SECONDS: Final = 300.0  # the engine polls at least every 30 s until it has stored the result

log = structlog.get_logger(__name__)


class ResultCache:
    """Keeps each result until it is read, and for some minutes after the last read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._results: dict[PredictionId, Prediction] = {}
        self._read_at: dict[PredictionId, float] = {}

    def keep(self, prediction: Prediction) -> None:
        """Keep the prediction if it has ended."""
        self._expire()
        if prediction.outcome is not None:
            self._results[prediction.id] = prediction

    def get(self, prediction_id: PredictionId) -> Prediction | None:
        """Return the ended prediction, or None if no result is known."""
        result = self._results.get(prediction_id)
        if result is not None:
            self._read_at[prediction_id] = self._clock()
        return result

    def _expire(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        for prediction_id in [key for key, read_at in self._read_at.items() if read_at < oldest]:
            del self._read_at[prediction_id], self._results[prediction_id]


class OpenConnections:
    """Connections that wait for results. Closing one stops its prediction."""

    def __init__(self, results: ResultCache) -> None:
        self._results = results
        self._tasks: dict[PredictionId, asyncio.Task[Prediction]] = {}

    def __contains__(self, prediction_id: object) -> bool:
        """Whether the prediction's connection is open."""
        return prediction_id in self._tasks

    def open(
        self, prediction_id: PredictionId, call: Callable[[], Awaitable[Prediction]]
    ) -> asyncio.Task[Prediction]:
        """Run a call that returns when the prediction ends, and keep its result."""
        task = asyncio.create_task(self._wait(call))
        self._tasks[prediction_id] = task
        task.add_done_callback(lambda done: self._remove(prediction_id, done))
        return task

    def close(self, prediction_id: PredictionId) -> None:
        """Close a prediction's connection, if it is open."""
        task = self._tasks.pop(prediction_id, None)
        if task is not None:
            task.cancel()

    async def close_all(self) -> None:
        """Close all connections."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, call: Callable[[], Awaitable[Prediction]]) -> Prediction:
        prediction = await call()
        self._results.keep(prediction)
        return prediction

    def _remove(self, prediction_id: PredictionId, task: asyncio.Task[Prediction]) -> None:
        if self._tasks.get(prediction_id) is task:
            del self._tasks[prediction_id]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ProviderError):  # `start` raises it, or `poll` misses the prediction
            log.info("cog_connection_lost", prediction_id=prediction_id, reason=str(error))
        elif error is not None:
            log.error("cog_connection_lost", prediction_id=prediction_id, exc_info=error)


class Runs:
    """The predictions of one server; Fleek chooses their ids.

    Args:
        wire: The server.
        result_seconds: How long to wait for the result of a prediction that no longer runs.
        with_callbacks: Whether the server sends results to callback URLs.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        result_seconds: float,
        with_callbacks: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wire = wire
        self._result_seconds = result_seconds
        self._with_callbacks = with_callbacks
        self._clock = clock
        self._missing_since: dict[PredictionId, float] = {}  # neither running nor with a result
        self._polls = asyncio.Semaphore(POLLS_AT_ONCE)
        self._results = ResultCache(clock)
        self.connections = OpenConnections(self._results)

    def known(self, prediction_id: PredictionId) -> Prediction | None:
        """Return a prediction with a result or an open connection; None: it may be started."""
        running = Prediction(id=prediction_id) if prediction_id in self.connections else None
        return self._results.get(prediction_id) or running

    async def start_async(
        self, prediction_id: PredictionId, body: Mapping[str, Any]
    ) -> Prediction:
        """Start a prediction whose result is sent to the callback URL in `body`.

        Raises:
            ProviderRejected, ProviderUnavailable, OutcomeUnknown: See `Provider.start`.
        """
        self._missing_since.pop(prediction_id, None)
        return self._kept(await self._wire.start(prediction_id, body))

    async def start_blocking(
        self, prediction_id: PredictionId, body: Mapping[str, Any]
    ) -> Prediction:
        """Start a prediction over a connection that stays open until it ends.

        Returns when the server reports it as running, or with its result.

        Raises:
            ProviderRejected, ProviderUnavailable, OutcomeUnknown: See `Provider.start`.
        """
        self._missing_since.pop(prediction_id, None)
        call = partial(self._wire.start_and_wait, prediction_id, body)
        task = self.connections.open(prediction_id, call)
        until = self._clock() + ANSWER_SECONDS
        wait = FIRST_POLL_SECONDS
        try:
            while self._clock() < until:
                await asyncio.wait({task}, timeout=wait)
                running = None if task.done() else await self._running(prediction_id)
                if task.done():
                    return task.result()
                if running is not None:
                    return self._kept(running)
                wait = min(wait * 2, 1.0)
        except asyncio.CancelledError:
            self.connections.close(prediction_id)
            raise
        self.connections.close(prediction_id)
        raise OutcomeUnknown("the Cog server does not report whether the prediction runs")

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return the state of predictions.

        One that no longer runs, and whose result is not received in time, has failed.

        Raises:
            ProviderUnavailable: No state could be read.
        """
        states = await asyncio.gather(*map(self._state, ids), return_exceptions=True)
        predictions: dict[PredictionId, Prediction] = {}
        failures = []
        for state in states:
            if isinstance(state, Prediction):
                predictions[state.id] = state
            elif isinstance(state, ProviderUnavailable):
                failures.append(state)
            else:
                raise state
        if failures and not predictions:
            raise failures[0]
        return predictions

    async def cancel(self, prediction_id: PredictionId) -> None:
        """Request that a prediction stops.

        Raises:
            ProviderUnavailable: The server cannot be reached.
        """
        if not await self._wire.cancel(prediction_id):
            self._missing_since[prediction_id] = float("-inf")  # no result is worth waiting for

    async def close(self) -> None:
        """Close all connections, which stops their predictions."""
        await self.connections.close_all()

    async def _running(self, prediction_id: PredictionId) -> Prediction | None:
        """Return a prediction if the server reports it as running."""
        try:
            return await self._wire.poll(prediction_id)
        except ProviderUnavailable:
            return None

    async def _state(self, prediction_id: PredictionId) -> Prediction:
        result = self._results.get(prediction_id)
        if result is not None:
            return result
        async with self._polls:
            running = await self._wire.poll(prediction_id)
        if running is not None:
            self._missing_since.pop(prediction_id, None)
            return self._kept(running)
        return self._results.get(prediction_id) or self._missing(prediction_id)

    def _missing(self, prediction_id: PredictionId) -> Prediction:
        """Return the state of a prediction that does not run and has no result yet."""
        since = self._missing_since.setdefault(prediction_id, self._clock())
        may_come = self._with_callbacks or prediction_id in self.connections
        if self._clock() - since < (self._result_seconds if may_come else 0.0):
            return Prediction(id=prediction_id)
        self.connections.close(prediction_id)
        del self._missing_since[prediction_id]
        failed = lost(prediction_id)
        self._results.keep(failed)
        return failed

    def _kept(self, prediction: Prediction) -> Prediction:
        self._results.keep(prediction)
        return self._results.get(prediction.id) or prediction
