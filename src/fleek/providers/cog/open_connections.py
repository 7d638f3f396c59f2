"""Predictions whose connection this process holds open, and answers that nobody gives twice."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from fleek.domain.errors import ProviderError
from fleek.domain.job import PredictionId
from fleek.providers.base import Prediction

KEPT_SECONDS: Final = 300.0  # the engine looks again at least every 30 s until it has stored it

log = structlog.get_logger(__name__)


class ResultCache:
    """Keeps each answer until it was asked for, and for some minutes after the last time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[PredictionId, Prediction] = {}
        self._asked: dict[PredictionId, float] = {}

    def keep(self, prediction: Prediction) -> None:
        """Keep an answer, if it is one."""
        self._forget()
        if prediction.outcome is not None:
            self._kept[prediction.id] = prediction

    def get(self, prediction_id: PredictionId) -> Prediction | None:
        """Return the answer, or None if there is none yet."""
        found = self._kept.get(prediction_id)
        if found is not None:
            self._asked[prediction_id] = self._clock()
        return found

    def _forget(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        for prediction_id in [key for key, asked in self._asked.items() if asked < oldest]:
            del self._asked[prediction_id], self._kept[prediction_id]


class OpenConnections:
    """The connections that this process holds."""

    def __init__(self, answers: ResultCache) -> None:
        self._answers = answers
        self._tasks: dict[PredictionId, asyncio.Task[Prediction]] = {}

    def __contains__(self, prediction_id: object) -> bool:
        """Whether the prediction's connection is open."""
        return prediction_id in self._tasks

    def open(
        self, prediction_id: PredictionId, call: Coroutine[Any, Any, Prediction]
    ) -> asyncio.Task[Prediction]:
        """Run the call that starts the prediction and waits for its end; its answer is kept."""
        task = asyncio.create_task(self._wait(call))
        self._tasks[prediction_id] = task
        task.add_done_callback(lambda done: self._close(prediction_id, done))
        return task

    def drop(self, prediction_id: PredictionId) -> None:
        """Close the connection, which stops the prediction."""
        task = self._tasks.pop(prediction_id, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Close all connections."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, call: Coroutine[Any, Any, Prediction]) -> Prediction:
        prediction = await call
        self._answers.keep(prediction)
        return prediction

    def _close(self, prediction_id: PredictionId, task: asyncio.Task[Prediction]) -> None:
        if self._tasks.get(prediction_id) is task:
            del self._tasks[prediction_id]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ProviderError):  # `start` tells the engine, or `poll` finds it gone
            log.info("cog_connection_lost", prediction_id=prediction_id, reason=str(error))
        elif error is not None:
            log.error("cog_connection_lost", prediction_id=prediction_id, exc_info=error)
