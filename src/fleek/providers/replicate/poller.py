"""Polls predictions: many at once through the list, the others one by one."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from fleek.domain.errors import ProviderUnavailable
from fleek.domain.job import PredictionId
from fleek.providers.base import Failed, Prediction
from fleek.providers.http import Api, raise_for_read, read_date, read_errors
from fleek.providers.replicate.search import MAX_LIST_PAGES, poll_list
from fleek.providers.replicate.wire import LARGE, NAME, read_id, read_prediction

MAX_CALLS: Final = 200  # per poll; more predictions than this are polled through the list first
MAX_SINGLE_CALLS: Final = MAX_CALLS - MAX_LIST_PAGES  # after the list; for a random selection
AT_ONCE: Final = 24  # concurrent requests
GONE_SECONDS: Final = 600.0  # of responses 404 only, until a prediction counts as gone
GONE_KEPT: Final = 10_000


class Poller:
    """Reads the state of predictions, and remembers the missing ones.

    A prediction with the response 404 is omitted, as a replica of the API may lag behind. Only after
    ten minutes of 404 does it end as ``prediction_gone``.
    """

    def __init__(self, api: Api, *, clock: Callable[[], float]) -> None:
        self._api = api
        self._clock = clock
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._missing: dict[PredictionId, float] = {}  # since when all responses are 404

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return the state of predictions. Those that cannot be read now, or must wait, are omitted.

        Raises:
            ProviderUnavailable: None could be read.
        """
        seen: dict[PredictionId, Prediction] = {}
        failures: list[ProviderUnavailable] = []
        most = MAX_CALLS
        if len(ids) > MAX_CALLS:
            most = MAX_SINGLE_CALLS
            try:
                seen |= await poll_list(self._api, ids)
            except ProviderUnavailable as error:
                failures.append(error)
        for prediction_id in seen:
            self._missing.pop(prediction_id, None)

        async def read_one(prediction_id: PredictionId) -> None:
            """Read one, unless the provider has asked to wait meanwhile; a failure is noted."""
            async with self._at_once:
                if any(failure.retry_after is not None for failure in failures):
                    return  # rate limited: the others are polled next time
                try:
                    prediction = await self._read_one(prediction_id)
                except ProviderUnavailable as error:
                    failures.append(error)
                    return
            if prediction is not None:
                seen[prediction_id] = prediction

        rest = [key for key in dict.fromkeys(ids) if key not in seen]
        await asyncio.gather(*(read_one(key) for key in random.sample(rest, min(len(rest), most))))
        if failures and not seen:
            raise failures[-1]
        return {key: seen[key] for key in ids if key in seen}

    async def recall(self, prediction_id: PredictionId) -> Prediction | None:
        """Return the current state of a prediction; None: the id is unknown.

        Raises:
            ProviderUnavailable: It cannot be read now.
        """
        with read_errors(NAME):
            answer = await self._api.get(f"/predictions/{prediction_id}", most=LARGE)
            if answer.status == 404:
                return None
            raise_for_read(answer, NAME)
            date = read_date(answer.headers.get("date", ""))
            prediction = await answer.understood(partial(read_prediction, date=date))
        if prediction is None or prediction.id != prediction_id:
            raise ProviderUnavailable("Replicate's response describes another prediction")
        return prediction

    async def _read_one(self, prediction_id: PredictionId) -> Prediction | None:
        if read_id({"id": prediction_id}) is None:
            return None
        prediction = await self.recall(prediction_id)
        if prediction is None:
            return self._missing_prediction(prediction_id)
        self._missing.pop(prediction_id, None)
        return prediction

    def _missing_prediction(self, prediction_id: PredictionId) -> Prediction | None:
        if len(self._missing) >= GONE_KEPT:
            self._missing.clear()
        since = self._missing.setdefault(prediction_id, self._clock())
        if self._clock() - since < GONE_SECONDS:
            return None
        gone = Failed("prediction_gone", "Replicate no longer has the prediction", retryable=False)
        return Prediction(id=prediction_id, outcome=gone)
