"""Polls predictions: many at once through the list, the others one by one."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from fleek.domain.errors import ProviderUnavailable
from fleek.domain.job import PredictionId
from fleek.providers.base import Failed, Prediction
from fleek.providers.http import Api, raise_for_read, read_date, read_errors
from fleek.providers.replicate.search import Page, Row, pages, prediction_of_row, read_page
from fleek.providers.replicate.wire import LARGE, NAME, read_id, read_prediction, read_time

MAX_CALLS: Final = 200  # per poll; more predictions than this are polled through the list first
MAX_LIST_PAGES: Final = 40
PROBES: Final = 8  # single requests that say where older predictions are in the list
MAX_SINGLE_CALLS: Final = MAX_CALLS - MAX_LIST_PAGES - PROBES  # the rest; for a random selection
INSTANT: Final = timedelta(milliseconds=1)  # makes a window of the list include its last one
MIN_MATCHES: Final = 2  # a page with fewer matching rows is a poor one
MAX_POOR_PAGES: Final = 3  # so many poor pages in a row end the polling
AT_ONCE: Final = 24  # concurrent requests
GONE_SECONDS: Final = 600.0  # of responses 404 only, until a prediction counts as gone
GONE_KEPT: Final = 10_000


class Reads:
    """The requests that polls make, counted."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.made = 0

    async def page(self, query: Mapping[str, str]) -> Page:
        """Read one page of the list; raises as `read_page` does."""
        self.made += 1
        return await read_page(self._api, query)

    async def single(
        self, prediction_id: PredictionId
    ) -> tuple[Prediction, datetime | None] | None:
        """Read one prediction; as `read_single`."""
        self.made += 1
        return await read_single(self._api, prediction_id)


class Poller:
    """Reads the state of predictions, and remembers the missing ones.

    A prediction with the response 404 is omitted, as a replica of the API may lag behind. Only after
    ten minutes of 404 does it end as ``prediction_gone``.
    """

    def __init__(self, api: Api, *, clock: Callable[[], float]) -> None:
        self.reads = Reads(api)
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
                async with aclosing(poll_list(self.reads, ids)) as listed:
                    async for found in listed:
                        seen |= found
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
        found = await read_single(self._api, prediction_id)
        return None if found is None else found[0]

    async def _read_one(self, prediction_id: PredictionId) -> Prediction | None:
        if read_id({"id": prediction_id}) is None:
            return None
        found = await self.reads.single(prediction_id)
        if found is None:
            return self._missing_prediction(prediction_id)
        self._missing.pop(prediction_id, None)
        return found[0]

    def _missing_prediction(self, prediction_id: PredictionId) -> Prediction | None:
        if len(self._missing) >= GONE_KEPT:
            self._missing.clear()
        since = self._missing.setdefault(prediction_id, self._clock())
        if self._clock() - since < GONE_SECONDS:
            return None
        gone = Failed("prediction_gone", "Replicate no longer has the prediction", retryable=False)
        return Prediction(id=prediction_id, outcome=gone)


async def read_single(
    api: Api, prediction_id: PredictionId
) -> tuple[Prediction, datetime | None] | None:
    """Return a prediction and its creation time, with one request; None: the id is unknown.

    Raises:
        ProviderUnavailable: It cannot be read now.
    """
    with read_errors(NAME):
        answer = await api.get(f"/predictions/{prediction_id}", most=LARGE)
        if answer.status == 404:
            return None
        raise_for_read(answer, NAME)
        date = read_date(answer.headers.get("date", ""))
        prediction, created = await answer.understood(partial(_dated_prediction, date=date))
    if prediction is None or prediction.id != prediction_id:
        raise ProviderUnavailable("Replicate's response describes another prediction")
    return prediction, created


def _dated_prediction(
    body: Row, *, date: datetime | None
) -> tuple[Prediction | None, datetime | None]:
    return read_prediction(body, date=date), read_time(body.get("created_at"))


def _matches(page: Page, ids: Collection[PredictionId]) -> list[Prediction]:
    rows = (row for row in page.rows if read_id(row) in ids)
    return [found for row in rows if (found := prediction_of_row(row, page.date))]


async def poll_list(
    reads: Reads, prediction_ids: Collection[PredictionId]
) -> AsyncGenerator[Mapping[PredictionId, Prediction]]:
    """Yield what each page has of many predictions: the newest pages, then older ones.

    Newest first, until few of the wanted ones come. If single requests cannot read the others, a few
    of these are looked up, and the list is read on from the newest of them. Without that, 10,000
    predictions that run for minutes would be read one by one, as newer ones have ended.

    Raises:
        ProviderUnavailable: A page could not be read.
    """
    missing = {one for one in prediction_ids if read_id({"id": one}) is not None}
    left = MAX_LIST_PAGES
    async with aclosing(_read_stretch(reads, missing, {}, left)) as newest:
        async for found in newest:
            left -= 1
            yield found
    if left == 0 or len(missing) <= MAX_SINGLE_CALLS:
        return
    probes = await _probe(reads, random.sample(sorted(missing), PROBES))
    missing -= {prediction.id for prediction, _ in probes}
    yield {prediction.id: prediction for prediction, _ in probes}
    if times := [created for _, created in probes if created is not None]:
        query = {"created_before": (max(times) + INSTANT).isoformat()}
        async with aclosing(_read_stretch(reads, missing, query, left)) as older:
            async for found in older:
                yield found


async def _read_stretch(
    reads: Reads, missing: set[PredictionId], query: Mapping[str, str], most: int
) -> AsyncGenerator[Mapping[PredictionId, Prediction]]:
    """Yield the missing predictions of each page, and remove them, until few or none come."""
    poor = read = 0
    async with aclosing(pages(reads.page, query)) as following:
        async for page in following:
            found = {one.id: one for one in await asyncio.to_thread(_matches, page, missing)}
            missing.difference_update(found)
            yield found
            read, poor = read + 1, poor + 1 if len(found) < MIN_MATCHES else 0
            if not missing or poor == MAX_POOR_PAGES or read == most:
                break


async def _probe(
    reads: Reads, ids: Iterable[PredictionId]
) -> list[tuple[Prediction, datetime | None]]:
    """Read some predictions one by one; those that are unknown are left out."""
    found = await asyncio.gather(*(reads.single(one) for one in ids), return_exceptions=True)
    for error in found:
        if isinstance(error, BaseException) and not isinstance(error, ProviderUnavailable):
            raise error
    return [one for one in found if isinstance(one, tuple)]
