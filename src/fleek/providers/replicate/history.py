"""What was created for a job after a backup: a search of the list by job instead of by attempt."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from fleek.domain.attempt import attempt_id_of
from fleek.domain.job import JobId, PredictionId
from fleek.providers.base import History, Prediction
from fleek.providers.replicate.search import (
    HOURS,
    MARGIN,
    DatedRow,
    LostPrediction,
    PredictionList,
    Window,
    matches_input,
    prediction_of_row,
)
from fleek.providers.replicate.wire import read_id

TOKEN: Final = re.compile(r".*/([0-9a-f-]{36})\.([0-9a-f]{32})")  # the end of a callback URL
DERIVED: Final = 5  # version of an attempt's id that tells its job; older ones tell nothing

Row = Mapping[str, Any]


class HistorySearch:
    """One search for all predictions of a job in a span of time.

    A callback URL tells the job of its prediction. A prediction without one is compared by its
    model and input; one whose input was removed cannot be compared.

    Args:
        job_id: The job.
        lost: Its request.
        since: The beginning of that time, by our clock.
        now: The present, by the same clock.
    """

    def __init__(
        self, job_id: JobId, lost: LostPrediction, *, since: datetime, now: datetime
    ) -> None:
        self._job_id = job_id
        self._lost = lost
        self._since = since
        self._now = now
        self._first: datetime | None = None  # by the provider's clock
        self._date: datetime | None = None
        self._own: list[Prediction] = []
        self._alike: list[Prediction] = []
        self._unreadable: list[PredictionId] = []
        self._unclear = False  # a row could not be read

    async def run(self, listed: PredictionList) -> History:
        """Read the list once.

        Raises:
            ProviderUnavailable: A page could not be read.
        """
        self._date = (await listed.read({})).date
        if self._date is None:
            return History(complete=False)
        self._first = self._since + (self._date - self._now) - MARGIN
        window = Window(self._first, self._date + MARGIN).wider(HOURS)
        reached = await listed.scan(window, self._note_rows)
        return History(
            complete=reached and not self._unclear,
            own=tuple(self._own),
            alike=tuple(self._alike),
            unreadable=tuple(self._unreadable),
        )

    def _note_rows(self, rows: Sequence[DatedRow]) -> bool:
        for row, created in rows:
            self._note(row, created)
        return False

    def _note(self, row: Row, created: datetime | None) -> None:
        webhook = row.get("webhook")
        token = TOKEN.fullmatch(webhook) if isinstance(webhook, str) else None
        if created is None or (webhook and token is None):
            self._unclear |= created is None
            return  # the latter: of another service
        prediction = prediction_of_row(row, self._date)
        if token is not None and self._is_derived(token):
            if attempt_id_of(self._job_id, token[2]) != UUID(token[1]):
                return  # of another job
            if prediction is None:
                self._unclear = True
            else:
                self._own.append(prediction)
        elif self._lost.target.ran(row):
            self._compare(row, created, prediction)

    def _is_derived(self, token: re.Match[str]) -> bool:
        try:
            return UUID(token[1]).version == DERIVED
        except ValueError:
            return False

    def _compare(self, row: Row, created: datetime, prediction: Prediction | None) -> None:
        given = row.get("input")
        wiped = row.get("data_removed") is True or not isinstance(given, dict)
        same = None if wiped else matches_input(given, self._lost)  # type: ignore[arg-type] # a dict here
        if same is False:
            return
        if same and prediction is not None:
            self._alike.append(prediction)
        elif self._first is not None and created >= self._first:
            name = read_id(row)
            self._unclear |= name is None
            self._unreadable += [] if name is None else [name]
