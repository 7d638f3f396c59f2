"""The search for a video whose creation has an unknown outcome: nothing in the list names us.

A row with the same prompt, created at the time of the intent, is a possible match, unless the request
has files. Rows show few of the other parameters, so a match may be of another request with that prompt. That time is
known from two clocks: by the age of the intent and the host's date, and by our clock. Between both,
every row counts, so one of them may be wrong.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any, Final

from fleek.domain.attempt import Attempt
from fleek.domain.errors import ProviderUnavailable
from fleek.domain.job import Job
from fleek.domain.values import dataclass
from fleek.providers.base import Found, Prediction
from fleek.providers.http import Answer, Unreadable, read_date
from fleek.providers.openai.wire import read_created, read_video

PAGE: Final = 100
MAX_PAGES: Final = 30
MARGIN: Final = timedelta(seconds=30)
ROUNDED: Final = timedelta(seconds=1)  # times in rows are whole seconds
ECHOED: Final = ("size", "seconds")  # parameters that rows repeat

Row = Mapping[str, Any]


def read_page(answer: Answer) -> tuple[list[Row], str | None]:
    """Return the rows of a page, and the cursor of the next one; None: it is the last.

    Raises:
        Unreadable: It is not a list of videos.
    """
    body = answer.json()
    rows = body.get("data")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Unreadable("the response is not a list of videos")
    last = body.get("last_id") or (rows[-1].get("id") if rows else None)
    more = bool(body.get("has_more")) and isinstance(last, str)
    return rows, last if more else None


@dataclass(slots=True)
class Search:
    """One search.

    Args:
        job: Whose video is lost.
        attempt: Its intent.
        age: Of the intent.
        open: Time after the intent in which the request may have been sent.
        anonymous: Whether rows that do not show the whole request are never ours, as a repetition
            costs nothing.
    """

    job: Job
    attempt: Attempt
    age: timedelta
    open: timedelta
    anonymous: bool
    _candidates: dict[str, tuple[datetime, Prediction]] = field(default_factory=dict)
    _wiped: bool = False
    _unclear: bool = False
    _first: datetime | None = None
    _last: datetime | None = None

    async def run(self, read: Callable[[str | None], Coroutine[Any, Any, Answer]]) -> Found:
        """Read the list, newest first, until rows are older than the intent.

        Raises:
            ProviderUnavailable: A page cannot be read, or links to an earlier one.
        """
        cursors: list[str | None] = [None]
        reached = False
        while not reached and len(cursors) <= MAX_PAGES:
            answer = await read(cursors[-1])
            self._set_window(read_date(answer.headers.get("date", "")))
            rows, cursor = read_page(answer)
            older = [self._note(row) for row in rows]
            reached = any(older) or cursor is None
            if cursor in cursors and not reached:
                raise ProviderUnavailable("the list of videos links to an earlier page")
            cursors.append(cursor)
        found = sorted(self._candidates.values(), key=lambda dated: dated[0])
        return Found(
            prediction=None,
            complete=reached and not self._unclear and self._first is not None,
            candidates=tuple(prediction for _, prediction in found),
            wiped=self._wiped,
            partial=True,
        )

    def _set_window(self, date: datetime | None) -> None:
        if self._first is not None or date is None:
            return
        theirs, ours = date - self.age, self.attempt.submitted_at
        self._first = min(theirs, ours) - MARGIN - ROUNDED
        self._last = max(theirs, ours) + self.open + MARGIN

    def _note(self, row: Row) -> bool:
        """Read a row; returns whether it is older than the window."""
        created, prediction = read_created(row), read_video(row)
        if created is None or prediction is None or self._first is None or self._last is None:
            self._unclear = True
            return False
        if not self._first <= created <= self._last:
            return created < self._first
        if not self._same(row):
            return False
        if row.get("prompt") == self.job.prompt and not self.attempt.inputs:
            self._candidates[prediction.id] = (created, prediction)
        elif row.get("prompt") in (None, self.job.prompt) and not self.anonymous:
            self._wiped = True  # rows show no files, and some servers no prompt
        return False

    def _same(self, row: Row) -> bool:
        """Whether a row may be of the same request, apart from its prompt."""
        model, given = row.get("model"), self.job.input
        if isinstance(model, str) and not _is_model(model, self.job.model):
            return False
        return all(
            str(given[name]) == str(row[name])
            for name in ECHOED
            if name in given and row.get(name) is not None
        )


def _is_model(shown: str, asked: str) -> bool:
    """Whether a row's model is the requested one, or a dated version of it."""
    return shown == asked or shown.startswith(f"{asked}-") or shown == asked.rpartition("/")[2]
