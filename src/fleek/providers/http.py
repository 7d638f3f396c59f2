"""Calls to a provider's HTTP API, and what each kind of failure means for the costs.

A call is sent once, and its duration and the size of its response are limited. If a prediction may
have been created and so paid for, the error is `OutcomeUnknown`.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlencode

from yarl import URL

from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.domain.text import one_line, without_credentials
from fleek.domain.values import dataclass
from fleek.outbound.addresses import AllowedHost, Policy, UnsafeAddress
from fleek.outbound.client import Client, NotSent, Response, ResponseLost
from fleek.outbound.connections import MAX_CONNECTIONS, Connections
from fleek.providers.base import PAYMENT_REQUIRED, RATE_LIMITED, UNAUTHORIZED, UNREACHABLE
from fleek.providers.encoding import EncodingBroken, decoded
from fleek.providers.error_messages import reason_of_body
from fleek.providers.foreign_json import ON_LOOP, NotJson, parse
from fleek.providers.logs import MAX_READ, TooLong, body_without_logs
from fleek.system_clock import Steady, steady_seconds

MIB: Final = 1_048_576
SMALL: Final = 5 * MIB  # maximum size of a response, unless the call gives another
WHOLE_SECONDS: Final = 60.0  # maximum duration of a call, including its response
DATES_LAST_SECONDS: Final = 3600.0

REFUSED: Final[Mapping[int, str]] = {
    400: "provider_bad_request",
    403: "provider_forbidden",
    404: "provider_model_not_found",
    413: "provider_too_large",
    422: "provider_invalid_input",
}
"""Codes of permanent refusals; any other status is ``provider_rejected``."""

LATER: Final = frozenset({401, 402, 429})  # about the account, not about the request

SHORTEST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(minutes=10)
DEFAULT_RETRY_AFTER: Final = timedelta(seconds=10)  # after 429 without a time
UNPAID: Final = timedelta(minutes=5)  # 402: the operator has to act first
REFUSED_TOKEN: Final = timedelta(minutes=1)  # 401: the same, but a trial costs nothing

_RESETS: Final = re.compile(r"(?:resets in ~?|available in |[Tt]ry again in )(\d{1,6}) ?s")
_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,9})?")
_JSON: Final = {"accept": "application/json", "content-type": "application/json"}

T = TypeVar("T")


class Unreadable(ValueError):
    """The response's body is too large, cannot be decompressed, or is not a JSON object."""


class TooLarge(Unreadable):
    """The body has more bytes than the call allows."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


_LOST: Final = (ResponseLost, Unreadable, OSError)


@dataclass(frozen=True)
class Answer:
    """A complete response. Its JSON is parsed once.

    Args:
        status: The HTTP status.
        headers: With names in lower case.
        body: Decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            Unreadable: It is not a JSON object.
        """
        if not isinstance(self._value, dict):
            raise Unreadable("the answer is not a JSON object")
        return self._value

    async def understood(self, read: Callable[[dict[str, Any]], T]) -> T:
        """Return the result of `read` for the JSON; a large one is read in a thread. Raises as `json`."""
        value = self.json()
        if len(self.body) <= ON_LOOP:
            return read(value)
        return await asyncio.to_thread(read, value)

    async def parsed(self) -> Self:
        """Parse the body (a large one in a thread) and return this answer."""
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
    """An HTTP API with one base address.

    Args:
        base_url: Its address, without a trailing slash.
        client: Sends the requests, with the authorization headers.
        whole: Maximum duration of a call in seconds.
        steady: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        base_url: str,
        client: Client,
        *,
        whole: float = WHOLE_SECONDS,
        steady: Steady = steady_seconds,
    ) -> None:
        self._base_url = base_url
        self._client = client
        self._whole = whole
        self._steady = steady
        self._date: tuple[datetime, float] | None = None  # the latest, and when it was received

    async def get(
        self, path: str, params: Mapping[str, str] | None = None, *, most: int = SMALL
    ) -> Answer:
        """GET a path below the base; raises as `call` does."""
        return await self.call("GET", f"{path}?{urlencode(params)}" if params else path, most=most)

    async def post(
        self,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        most: int = SMALL,
    ) -> Answer:
        """POST JSON to a path below the base; raises as `call` does."""
        return await self.call("POST", path, content, headers, most=most)

    async def call(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        most: int = SMALL,
        wait: bool = False,
    ) -> Answer:
        """Send a request once, and return the response.

        Args:
            method: GET, POST, PUT, DELETE.
            path: Below the base, including the query.
            content: JSON.
            headers: Added to those of the client.
            most: Maximum size of the body in bytes.
            wait: Whether the response may take any time.

        Raises:
            NotSent, ResponseLost: It failed.
            Unreadable: The body is too large, or cannot be decompressed.
        """
        address = f"{self._base_url}{path}"
        sent = {**_JSON, **(headers or {})}
        if method == "GET":
            del sent["content-type"]
        try:
            async with (
                asyncio.timeout(None if wait else self._whole),
                self._client.open(method, address, content, sent, wait=wait) as response,
            ):
                self._keep_date(response.headers.get("date", ""))
                answer = await _whole(response, most)
        except TimeoutError as error:
            raise ResponseLost("no complete response in time", late=True) from error
        except UnsafeAddress as error:
            raise NotSent(str(error)) from error
        return await answer.parsed()

    @property
    def time(self) -> datetime | None:
        """The host's time, from the date of its latest response; None: no response in the last hour."""
        if self._date is None:
            return None
        date, came = self._date
        passed = self._steady() - came
        return date + timedelta(seconds=passed) if passed < DATES_LAST_SECONDS else None

    @property
    def post_window(self) -> timedelta:
        """The time after its start in which a call may still reach the host."""
        return timedelta(seconds=self._whole)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    def _keep_date(self, date: str) -> None:
        instant = read_date(date)
        if instant is not None:
            self._date = instant, self._steady()


async def _whole(response: Response, most: int) -> Answer:
    try:
        chunks = decoded(response.body, response.headers, free=MAX_READ)  # logs compress well
        body = await body_without_logs(chunks, most=most)
    except TooLong as error:
        raise TooLarge(str(error), status=response.status) from error
    except EncodingBroken as error:
        raise Unreadable(str(error)) from error
    return Answer(response.status, response.headers, body)


def open_api(
    base_url: str,
    *,
    headers: Mapping[str, str] | None = None,
    read: float = 30.0,
    whole: float = WHOLE_SECONDS,
    tls: ssl.SSLContext | None = None,
    proxy: str | None = None,
    limit: int = MAX_CONNECTIONS,
    steady: Steady = steady_seconds,
) -> Api:
    """Return an API at an address chosen by the operator; no other address is called.

    Args:
        base_url: Its address.
        headers: Sent with each request, e.g. those of `authorization`.
        read: Maximum time between the bytes of a response, in seconds.
        whole: Maximum duration of a call in seconds.
        tls: For checking certificates; None: with the CAs of the system.
        proxy: Address of a proxy for all requests.
        limit: Maximum number of concurrent requests; 0: unlimited.
        steady: Monotonic clock, in seconds.
    """
    base_url = str(URL(base_url)).rstrip("/")
    policy = Policy(patterns=(), named=(AllowedHost.of(base_url),))
    connections = Connections(policy, tls=tls, proxy=proxy, limit=limit)
    client = Client(policy, connections, headers=headers, read=read)
    return Api(base_url, client, whole=whole, steady=steady)


def authorization(token: str, scheme: str = "Bearer") -> dict[str, str]:
    """Return the authorization header for a token; some providers use the scheme ``Key``."""
    return {"authorization": f"{scheme} {token}"}


@contextmanager
def creation_errors(provider: str, *, unreachable: str = UNREACHABLE) -> Generator[None]:
    """Translate errors of a call that creates a prediction.

    Raises:
        ProviderUnavailable: Not created: nothing was sent. Its code is `unreachable`.
        OutcomeUnknown: A request was sent, and no readable response was received.
    """
    try:
        yield
    except NotSent as error:
        raise _unreachable(provider, error, unreachable) from error
    except _LOST as error:
        raise OutcomeUnknown(f"{provider}'s response was lost: {_words(error)}") from error


@contextmanager
def read_errors(provider: str, *, unreachable: str = UNREACHABLE) -> Generator[None]:
    """Translate errors of a call that is free of charge.

    Raises:
        ProviderUnavailable: It may be repeated.
    """
    try:
        yield
    except NotSent as error:
        raise _unreachable(provider, error, unreachable) from error
    except _LOST as error:
        raise ProviderUnavailable(f"{provider} did not answer: {_words(error)}") from error


def _unreachable(provider: str, error: NotSent, code: str) -> ProviderUnavailable:
    return ProviderUnavailable(f"{provider} cannot be reached: {_words(error)}", code=code)


def raise_for_create(answer: Answer, provider: str) -> None:
    """Raise the error for the status of a response to a creation, unless it is 2xx.

    Raises:
        ProviderRejected: 4xx: not created; a repetition would be refused, too.
        ProviderUnavailable: 401, 402, 429: not created; may be repeated.
        OutcomeUnknown: 408, 3xx, 5xx: it may have been created.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    if status in LATER:
        raise _later(answer, provider)
    if not 400 <= status < 500 or status == 408:
        raise OutcomeUnknown(f"{provider} responded to the creation with status {status}")
    code = REFUSED.get(status, "provider_rejected")
    raise ProviderRejected(
        f"{provider} refused the prediction ({status}): {detail(answer)}", code=code
    )


def raise_for_read(answer: Answer, provider: str) -> None:
    """Raise the error for the status of any other response, unless it is 2xx.

    Raises:
        ProviderUnavailable: It may be repeated.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    if status in LATER:
        raise _later(answer, provider)
    code = REFUSED[status] if status == 403 else None
    raise ProviderUnavailable(f"{provider} responded with {status}: {detail(answer)}", code=code)


def _later(answer: Answer, provider: str) -> ProviderUnavailable:
    if answer.status == 401:
        message = f"{provider} does not accept the token: {detail(answer)}"
        return ProviderUnavailable(message, code=UNAUTHORIZED, retry_after=REFUSED_TOKEN)
    if answer.status == 402:
        message = f"the {provider} account has no credit left: {detail(answer)}"
        return ProviderUnavailable(message, code=PAYMENT_REQUIRED, retry_after=UNPAID)
    message = f"{provider} limits the rate of requests"
    return ProviderUnavailable(message, code=RATE_LIMITED, retry_after=retry_after(answer))


def retry_after(answer: Answer) -> timedelta:
    """Return the waiting time given by a 429, between 1 second and 10 minutes.

    The first readable one of these applies: ``retry-after-ms``, ``Retry-After`` in seconds or as a
    date, ``ratelimit-reset`` in seconds, the text of the body.
    """
    value = answer.headers.get("retry-after", "")
    sentence = _RESETS.search(answer.body[:10_000].decode("utf-8", "replace"))
    wait = (
        _milliseconds(answer.headers.get("retry-after-ms", ""))
        or _seconds(value)
        or _until(value, answer)
        or _seconds(answer.headers.get("ratelimit-reset", ""))
        or _seconds(sentence[1] if sentence else "")
        or DEFAULT_RETRY_AFTER
    )
    return min(max(wait, SHORTEST), LONGEST)


def _seconds(text: str) -> timedelta | None:
    text = text.strip()
    return timedelta(seconds=float(text)) if _SECONDS.fullmatch(text) else None


def _milliseconds(text: str) -> timedelta | None:
    wait = _seconds(text)
    return None if wait is None else wait / 1000


def _until(text: str, answer: Answer) -> timedelta | None:
    """Return the time until a date, by the clock of the host that sent it."""
    then, now = read_date(text), read_date(answer.headers.get("date", ""))
    return None if then is None or now is None or then <= now else then - now


@lru_cache(maxsize=16)
def read_date(text: str) -> datetime | None:
    """Return the instant of an HTTP date, or None if it is not valid.

    All responses of a second have the same one, and each is asked for it twice.
    """
    try:
        instant = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def detail(answer: Answer) -> str:
    """Return the error message in a response's body as one short line."""
    return reason_of_body(answer.body, 500)


def _words(error: Exception) -> str:
    """Return the error's message without credentials, e.g. the token of the request."""
    return one_line(without_credentials(str(error)), 300) or type(error).__name__
