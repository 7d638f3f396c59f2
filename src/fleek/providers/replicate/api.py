"""Requests to Replicate's API: the token, time-outs, and answers of bounded size.

Nothing here is sent twice, and no redirect is followed, so the token goes nowhere else.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final, Self, TypeVar

import httpx2

from fleek.outbound import open_api
from fleek.providers.encoding import EncodingBroken, decoded
from fleek.providers.foreign_json import ON_LOOP, NotJson, parse
from fleek.providers.logs import TooLong, body_without_logs
from fleek.system_clock import Steady, steady_seconds

MIB: Final = 1_048_576
SMALL: Final = 5 * MIB  # the answer to anything but a look at predictions
LARGE: Final = 16 * MIB  # a prediction, a page of a list; without the middle of their logs


DATES_LAST_SECONDS: Final = 3600.0

T = TypeVar("T")


class Unreadable(ValueError):
    """The answer's body is too large, cannot be unpacked, or is not a JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long to wait, in seconds."""

    connect: float = 5.0
    write: float = 10.0
    read: float = 30.0
    whole: float = 60.0  # one call, however it trickles


@dataclass(frozen=True)
class Answer:
    """An answer that came whole. Its JSON is parsed once."""

    status: int
    headers: httpx2.Headers
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the JSON object that the body holds.

        Raises:
            Unreadable: It holds none.
        """
        if not isinstance(self._value, dict):
            raise Unreadable("the answer is not a JSON object")
        return self._value

    async def understood(self, read: Callable[[dict[str, Any]], T]) -> T:
        """Return what `read` makes of the JSON, of a large one in a thread; raises as `json`."""
        value = self.json()
        if len(self.body) <= ON_LOOP:
            return read(value)
        return await asyncio.to_thread(read, value)

    async def parsed(self) -> Self:
        """Parse the body, a large one in a thread, and return this answer."""
        if len(self.body) > ON_LOOP:
            await asyncio.to_thread(lambda: self._value)
        return self

    @cached_property
    def _value(self) -> Any:
        try:
            return parse(self.body)
        except NotJson:
            return None


class Api:
    """One account at one host.

    Args:
        base_url: Up to and with ``/v1``.
        token: Goes into each request.
        times: How long to wait.
        steady: Seconds that only grow.
        tls: How certificates are checked; None: against those that the system trusts.
        proxy: The address of a proxy that all requests go through.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        times: Times | None = None,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        steady: Steady = steady_seconds,
    ) -> None:
        self._steady = steady
        self._told: tuple[datetime, float] | None = None  # the latest date, and when it came
        self.times = times or Times()
        self._http = open_api(
            base_url,
            headers={
                "authorization": f"Bearer {token}",
                "accept": "application/json",
                "accept-encoding": "identity",
            },
            timeout=httpx2.Timeout(
                self.times.read,
                connect=self.times.connect,
                write=self.times.write,
                pool=self.times.connect,
            ),
            limits=httpx2.Limits(max_connections=256, max_keepalive_connections=32),
            tls=tls,
            proxy=proxy,
        )

    async def get(
        self, path: str, params: Mapping[str, str] | None = None, *, most: int = SMALL
    ) -> Answer:
        """GET a path below the base; `most` bounds the body, in bytes.

        Raises:
            httpx2.HTTPError: It could not be reached, or did not answer.
            Unreadable: The body is too large, or cannot be unpacked.
        """
        return await self._send(self._http.build_request("GET", path, params=params), most)

    async def post(
        self,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        most: int = SMALL,
    ) -> Answer:
        """POST JSON to a path below the base, once; raises as `get` does."""
        sent = {"content-type": "application/json", **(headers or {})}
        request = self._http.build_request("POST", path, content=content, headers=sent)
        return await self._send(request, most)

    @property
    def time(self) -> datetime | None:
        """What time it is there, by the date of an answer of this hour; None: none has come."""
        if self._told is None:
            return None
        date, came = self._told
        passed = self._steady() - came
        return date + timedelta(seconds=passed) if passed < DATES_LAST_SECONDS else None

    @property
    def post_window(self) -> timedelta:
        """For how long after its beginning a `post` may still reach the other side."""
        return timedelta(seconds=self.times.whole)

    async def close(self) -> None:
        """Close what is open."""
        await self._http.aclose()

    async def _send(self, request: httpx2.Request, most: int) -> Answer:
        try:
            async with asyncio.timeout(self.times.whole):
                response = await self._http.send(request, stream=True)
                date = read_date(response.headers.get("date", ""))
                if date is not None:
                    self._told = date, self._steady()
                try:
                    body = await _body(response, most)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise httpx2.ReadTimeout("the answer took too long") from error
        return await Answer(response.status_code, response.headers, body).parsed()


def read_date(text: str) -> datetime | None:
    """Return the instant that an HTTP date names, or None if it is none."""
    try:
        instant = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


async def _body(response: httpx2.Response, most: int) -> bytes:
    try:
        chunks = decoded(response.aiter_raw(), response.headers)
        return await body_without_logs(chunks, most=most)
    except (EncodingBroken, TooLong) as error:
        raise Unreadable(str(error)) from error
