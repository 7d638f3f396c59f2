"""The list of predictions, and the search in it for a lost one.

Source: https://replicate.com/docs/reference/http#predictions.list
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import field, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from fleek.domain.data_uri import DataUriUnreadable, decode, is_data_uri
from fleek.domain.errors import ProviderUnavailable
from fleek.domain.inputs import texts_of, with_values
from fleek.domain.job import PredictionId
from fleek.domain.values import dataclass
from fleek.providers.base import Found, Prediction
from fleek.providers.http import Answer, Api, Unreadable, raise_for_read, read_date, read_errors
from fleek.providers.replicate.schemas import Target
from fleek.providers.replicate.wire import LARGE, NAME, read_prediction, read_time

SEARCH_PAGES: Final = 60
READS: Final = 8  # concurrent searches that read pages on their own; a page may be large
MARGIN: Final = timedelta(seconds=30)  # around the time of the start
HOURS: Final = timedelta(hours=2)  # around it, if two clocks disagree on that time
DAY: Final = timedelta(hours=26)  # around it, if only one clock is known

Row = Mapping[str, Any]
DatedRow = tuple[Row, datetime | None]
NoteRows = Callable[[Sequence[DatedRow]], bool]
"""Reads a page's rows; returns whether no further page is needed."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list, newest first."""

    rows: tuple[Row, ...]
    next: Mapping[str, str] | None  # the query of the next page; None: this is the last one
    date: datetime | None  # the time of the response, by the host's clock

    @property
    def dated(self) -> Sequence[DatedRow]:
        """Its rows, each with its creation time; None if that cannot be read."""
        return [(row, read_time(row.get("created_at"))) for row in self.rows]


ReadPage = Callable[[Mapping[str, str]], Coroutine[Any, Any, Page]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LostPrediction:
    """The known facts about a prediction whose creation has an unknown outcome."""

    target: Target
    input: Row  # of the request, as far as it is known without the media inputs
    files: Mapping[str, Any] = field(default_factory=dict)  # its media inputs, as `Attempt.inputs`
    token: str  # the end of the callback URL, if one was sent
    age: timedelta  # of the intent, by our clock
    open: timedelta  # time after the intent in which the request may have been sent
    written: datetime | None = None  # time of the intent by the provider's clock; None: unknown
    dates_differ: bool = False  # whether Date headers are known to differ from times in rows


async def pages(read: ReadPage, query: Mapping[str, str]) -> AsyncGenerator[Page]:
    """Yield pages up to the last one.

    Raises:
        ProviderUnavailable: A page cannot be read, or it links to an earlier one.
    """
    queries: list[Mapping[str, str]] = []
    following: Mapping[str, str] | None = query
    while following is not None:
        if following in queries:
            raise ProviderUnavailable("Replicate's list of predictions links to an earlier page")
        queries.append(following)
        page = await read(following)
        yield page
        following = page.next


async def read_page(api: Api, query: Mapping[str, str]) -> Page:
    """Read one page, with one request.

    Raises:
        ProviderUnavailable: It cannot be read.
    """
    with read_errors(NAME):
        answer = await api.get("/predictions", query, most=LARGE)
        raise_for_read(answer, NAME)
        return _page(answer)


@dataclass(frozen=True, slots=True)
class Window:
    """A span of creation times, by the provider's clock."""

    first: datetime
    last: datetime

    def wider(self, by: timedelta) -> Self:
        """Return a window that is larger at both ends, rounded to full hours.

        The rounding lets many searches share the same window.
        """
        first, last = self.first - by, self.last + by + timedelta(hours=1)
        return replace(self, first=_full_hour(first), last=_full_hour(last))

    def contains(self, instant: datetime) -> bool:
        """Whether an instant is in the window."""
        return self.first <= instant <= self.last

    @property
    def query(self) -> Mapping[str, str]:
        """The query of its newest page."""
        return {
            "created_after": self.first.isoformat(),
            "created_before": self.last.isoformat(),
        }


def _full_hour(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True, eq=False)
class _Reader:
    """A search that takes part in a scan of a window."""

    note: NoteRows
    result: asyncio.Future[bool]

    def end(self, *, reached: bool) -> None:
        """Set the result, unless the search was cancelled."""
        if not self.result.done():
            self.result.set_result(reached)

    def fail(self, error: Exception) -> None:
        """Set an error, unless the search has ended."""
        if not self.result.done():
            self.result.set_exception(error)


class PredictionList:
    """The list of predictions, read once for all searches of the same window.

    After an error of a clock, many predictions may be searched for in the same hours. The searches
    share one scan of these hours; those that begin during a scan share the next one.

    Args:
        read_page: Reads one page, with one request.
    """

    def __init__(self, read_page: ReadPage) -> None:
        self._read_page = read_page
        self.places = asyncio.Semaphore(READS)
        self._reading: dict[frozenset[tuple[str, str]], asyncio.Task[Page]] = {}
        self._waiting: dict[Window, list[_Reader]] = {}
        self._passes: dict[Window, asyncio.Task[None]] = {}

    async def read(self, query: Mapping[str, str]) -> Page:
        """Read a page, or wait for the request that is reading it; raises as `read_page` does."""
        key = frozenset(query.items())
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(self._read_page(query))
            task.add_done_callback(partial(self._read_done, key))
        return await asyncio.shield(task)

    def _read_done(self, key: frozenset[tuple[str, str]], task: asyncio.Task[Page]) -> None:
        del self._reading[key]
        if not task.cancelled():
            task.exception()  # marks it as retrieved, as all waiting searches may have ended

    async def scan(self, window: Window, note: NoteRows) -> bool:
        """Pass all rows of a window to `note`, newest first, until it returns True.

        Returns:
            Whether it returned True or all rows were read; False: there are too many pages.

        Raises:
            ProviderUnavailable: A page cannot be read.
        """
        reader = _Reader(note, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(window, []).append(reader)
        if window not in self._passes:
            self._passes[window] = asyncio.create_task(self._scan(window))
        return await reader.result

    def is_scanning(self, window: Window) -> bool:
        """Whether a scan of a window is under way."""
        return window in self._passes

    async def _scan(self, window: Window) -> None:
        while readers := self._waiting.pop(window, []):
            try:
                await self._pass(window, readers)
            except Exception as error:  # noqa: BLE001 - raised by the waiting searches
                for reader in readers:
                    reader.fail(error)
        del self._passes[window]

    async def _pass(self, window: Window, readers: Sequence[_Reader]) -> None:
        number, ended = 0, False
        async with aclosing(pages(self.read, window.query)) as following:
            async for page in following:
                number, ended = number + 1, page.next is None
                for reader in await asyncio.to_thread(_note_page, page, readers):
                    reader.end(reached=True)
                readers = [reader for reader in readers if not reader.result.done()]
                if not readers or number == SEARCH_PAGES:
                    break
        for reader in readers:
            reader.end(reached=ended)

    async def close(self) -> None:
        """Cancel the requests that are under way."""
        tasks = (*self._passes.values(), *self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _note_page(page: Page, readers: Iterable[_Reader]) -> list[_Reader]:
    """Return the readers that need no further page."""
    rows = page.dated
    return [reader for reader in readers if reader.note(rows)]


def _page(answer: Answer) -> Page:
    body = answer.json()
    results, link = body.get("results"), body.get("next")
    if not isinstance(results, list) or not all(isinstance(row, dict) for row in results):
        raise Unreadable("the response is not a list of predictions")
    following = None
    if isinstance(link, str) and link:
        try:  # only the query is used, as the rest could point to another host
            following = dict(parse_qsl(urlsplit(link).query, keep_blank_values=True))
        except ValueError as error:
            raise Unreadable("the response has no valid link to the next page") from error
    return Page(tuple(results), following, read_date(answer.headers.get("date", "")))


def prediction_of_row(row: Row, date: datetime | None) -> Prediction | None:
    """Return the prediction of a row; without its output, a success counts as still running."""
    prediction = read_prediction(row, date=date)
    if prediction is not None and row.get("status") == "succeeded" and "output" not in row:
        return replace(prediction, outcome=None)
    return prediction


def matches_input(given: Row, lost: LostPrediction) -> bool | None:
    """Whether a row's input is that of the request; None: a file of it cannot be compared.

    Files are compared by their address or their bytes: the same bytes are the same input.
    """
    if not lost.files:
        return given == lost.input
    texts, marks = texts_of(given), dict.fromkeys(lost.files, "")
    if with_values(given, marks) != with_values(lost.input, marks):
        return False
    found = [_is_file(texts.get(pointer, ""), sent) for pointer, sent in lost.files.items()]
    return False if False in found else None if None in found else True


def _is_file(value: str, sent: Row) -> bool | None:
    if "address" in sent:
        return value == str(sent["address"])
    if not is_data_uri(value):
        return None  # Replicate may show a file that was sent inline at an address of its own
    try:
        content = b"".join(decode(iter((value,))))
    except DataUriUnreadable:
        return False
    return sha256(content).hexdigest() == str(sent["sha256"])


class Search:
    """One search for a lost prediction, page by page.

    A row with its token is a certain match, at any time. A row without a token is a possible match
    if it was created at the time of the start. That time is known from two clocks: the provider's,
    read when the intent was written, and ours, by the age of the intent. If both agree, and match
    the times in the rows, a short window is enough; else hours are searched before an empty result
    counts.
    """

    def __init__(self, lost: LostPrediction) -> None:
        self._lost = lost
        self._date: datetime | None = None  # of the first page
        self._window: Window | None = None  # rows outside are no match
        self._likely: Window | None = None  # of the start, by the provider's clock
        self._ours: Window | None = None  # of the start, by our clock
        self._agree = False  # whether both clocks agree on the time of the intent
        self._fits = False  # whether the provider's dates match the times in its rows
        self._candidates: dict[PredictionId, tuple[datetime, Prediction]] = {}
        self._own: Prediction | None = None
        self._unclear = False  # a row could not be read
        self._wiped = False

    async def run(self, listed: PredictionList) -> Found:
        """Search the newest page, then the window.

        Raises:
            ProviderUnavailable: A page could not be read.
        """
        reached = await self._read_newest(listed)
        if self._window is not None:
            wide = self._window.wider(HOURS if self._lost.written else DAY)
            async with listed.places:
                if not reached and (self._time_certain or not listed.is_scanning(wide)):
                    reached = await self._read_window(listed, self._window)
            if not self._time_certain and not self._found:
                self._window = wide
                reached = await listed.scan(wide, self._note_rows)
        likely, others = self._sorted_candidates()
        return Found(
            prediction=self._own,
            complete=reached and not self._unclear and self._window is not None,
            candidates=(*likely, *others),
            likely=len(likely) if others else None,
            wiped=self._wiped,
        )

    def _sorted_candidates(self) -> tuple[list[Prediction], list[Prediction]]:
        """Return the candidates in the likely window, and the others, each oldest first."""
        likely: list[Prediction] = []
        others: list[Prediction] = []
        for created, prediction in sorted(self._candidates.values(), key=lambda dated: dated[0]):
            at_intent = self._likely is not None and self._likely.contains(created)
            (likely if at_intent else others).append(prediction)
        return likely, others

    @property
    def _time_certain(self) -> bool:
        return self._agree and self._fits

    @property
    def _single_clock(self) -> bool:
        """Whether only one clock is known, or the provider's is known to be wrong."""
        return self._lost.written is None or (self._lost.dates_differ and not self._agree)

    @property
    def _found(self) -> bool:
        return self._own is not None or bool(self._candidates) or self._wiped

    async def _read_newest(self, listed: PredictionList) -> bool:
        """Read the newest page; returns whether no other page is needed."""
        page = await listed.read({})
        if page.date is not None:
            self._set_windows(page, page.date)
        return await asyncio.to_thread(self._note_rows, page.dated) or page.next is None

    async def _read_window(self, listed: PredictionList, window: Window) -> bool:
        """Read pages of a window; returns whether the search ended before the limit of pages."""
        number = 0
        async with aclosing(pages(listed.read, window.query)) as following:
            async for page in following:
                number += 1
                if await asyncio.to_thread(self._note_rows, page.dated) or page.next is None:
                    return True
                if number == SEARCH_PAGES:
                    break
        return False

    def _set_windows(self, page: Page, date: datetime) -> None:
        """Compute the windows of the start."""
        lost, self._date = self._lost, date
        by_age = date - lost.age
        written = lost.written or by_age
        self._agree = lost.written is not None and abs(by_age - written) <= MARGIN
        times = [created for row in page.rows if (created := read_time(row.get("created_at")))]
        newest = max(times, default=None)
        self._fits = not lost.dates_differ and (
            newest is None or abs(date - newest) <= MARGIN + lost.open
        )
        self._likely = Window(written - MARGIN, written + lost.open + MARGIN)
        self._ours = Window(by_age - MARGIN, by_age + lost.open + MARGIN)
        self._window = Window(
            min(written, by_age) - MARGIN, max(written, by_age) + lost.open + MARGIN
        )

    def _note_rows(self, rows: Sequence[DatedRow]) -> bool:
        """Read a page's rows; returns whether the prediction was found or older rows were reached."""
        older = [self._note(row, created) for row, created in rows]
        return self._own is not None or any(older)

    def _note(self, row: Row, created: datetime | None) -> bool:
        """Read a row; returns whether it is older than the window."""
        webhook = row.get("webhook")
        if isinstance(webhook, str) and webhook.endswith(f"/{self._lost.token}"):
            self._own = prediction_of_row(row, self._date)
            return False
        if created is None or self._window is None:
            self._unclear = True
            return False
        if not self._window.contains(created):
            return created < self._window.first
        if isinstance(webhook, str) and webhook:
            return False  # of another attempt or another service
        if self._lost.target.ran(row):
            self._compare_input(row, created)
        return False

    def _compare_input(self, row: Row, created: datetime) -> None:
        """Add a row to the candidates if its input is the same."""
        given, prediction = row.get("input"), prediction_of_row(row, self._date)
        if row.get("data_removed") is True or not isinstance(given, dict):
            self._note_wiped(created)
        elif prediction is None or (same := matches_input(given, self._lost)) is None:
            self._unclear = True
        elif same:
            self._candidates[prediction.id] = (created, prediction)

    def _note_wiped(self, created: datetime) -> None:
        """Read a row without input; Replicate removes inputs after an hour.

        Of two clocks, one may be wrong, not both: a row that is outside both windows is no match.
        Otherwise any such row within hours would prevent an empty result from counting.
        """
        assert self._likely is not None
        assert self._ours is not None
        if self._likely.contains(created):
            self._wiped = True
        elif self._single_clock or self._ours.contains(created):
            self._unclear = True
