"""Replicate's failures in our words: of a call that spends money, and of calls that only ask.

The two differ where it matters. A purchase whose answer got lost may have been made, whatever the
status says; a question can simply be asked again.
"""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import httpx2

from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.domain.text import one_line, without_credentials
from fleek.providers.base import PAYMENT_REQUIRED, RATE_LIMITED, UNAUTHORIZED, UNREACHABLE
from fleek.providers.error_messages import reason_of_body
from fleek.providers.replicate.api import Answer, Unreadable, read_date

REFUSED: Final[Mapping[int, str]] = {
    400: "provider_bad_request",
    403: "provider_forbidden",
    404: "provider_model_not_found",
    413: "provider_too_large",
    422: "provider_invalid_input",
}
"""Codes of what is refused for good; any other status is ``provider_rejected``."""

LATER: Final = frozenset({401, 402, 429})  # about the account, not about what was asked for

SHORTEST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(minutes=10)
DEFAULT_RETRY_AFTER: Final = timedelta(seconds=10)  # 429 that does not say how long
UNPAID: Final = timedelta(minutes=5)  # 402: somebody has to act first
REFUSED_TOKEN: Final = timedelta(minutes=1)  # 401: so does somebody, but to ask costs nothing

_RESETS: Final = re.compile(r"(?:resets in ~?|available in )(\d{1,6}) ?s")
_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,9})?")
_NOT_SENT: Final = (
    httpx2.ConnectError,  # refused, no such host, TLS
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,  # no free connection in time
    httpx2.ProxyError,  # it makes no tunnel
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,  # of our own making, such as a header that cannot be written
)
_LOST: Final = (httpx2.HTTPError, httpx2.StreamError, OSError, Unreadable)


@contextmanager
def purchase() -> Generator[None]:
    """Translate what goes wrong while a prediction is created.

    Raises:
        ProviderUnavailable: Not bought: nothing was sent.
        OutcomeUnknown: Something was sent and no readable answer came back.
    """
    try:
        yield
    except _NOT_SENT as error:
        raise ProviderUnavailable(
            f"Replicate cannot be reached: {_named(error)}", code=UNREACHABLE
        ) from error
    except _LOST as error:
        raise OutcomeUnknown(f"Replicate's answer was lost: {_named(error)}") from error


@contextmanager
def inquiry() -> Generator[None]:
    """Translate what goes wrong while something is asked that costs nothing.

    Raises:
        ProviderUnavailable: It may be asked again.
    """
    try:
        yield
    except _NOT_SENT as error:
        raise ProviderUnavailable(
            f"Replicate cannot be reached: {_named(error)}", code=UNREACHABLE
        ) from error
    except _LOST as error:
        raise ProviderUnavailable(f"Replicate did not answer: {_named(error)}") from error


def raise_for_create(answer: Answer) -> None:
    """Raise what the status of the answer to a purchase means, unless it is 2xx.

    Raises:
        ProviderRejected: 4xx: not bought, and asking again is no use.
        ProviderUnavailable: 401, 402, 429: not bought; may be tried again.
        OutcomeUnknown: 408, 3xx, 5xx: it may have been bought all the same.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    if status in LATER:
        raise _later(answer)
    if not 400 <= status < 500 or status == 408:
        raise OutcomeUnknown(f"Replicate answered {status} to a purchase")
    code = REFUSED.get(status, "provider_rejected")
    raise ProviderRejected(f"Replicate refused it ({status}): {detail(answer)}", code=code)


def raise_for_read(answer: Answer) -> None:
    """Raise what the status of any other answer means, unless it is 2xx.

    Raises:
        ProviderUnavailable: It may be asked again.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    if status in LATER:
        raise _later(answer)
    code = REFUSED[status] if status == 403 else None
    raise ProviderUnavailable(f"Replicate answered {status}: {detail(answer)}", code=code)


def _later(answer: Answer) -> ProviderUnavailable:
    if answer.status == 401:
        message = f"Replicate does not take the token: {detail(answer)}"
        return ProviderUnavailable(message, code=UNAUTHORIZED, retry_after=REFUSED_TOKEN)
    if answer.status == 402:
        message = f"the Replicate account has no credit left: {detail(answer)}"
        return ProviderUnavailable(message, code=PAYMENT_REQUIRED, retry_after=UNPAID)
    wait = retry_after(answer)
    message = "Replicate takes no more requests for now"
    return ProviderUnavailable(message, code=RATE_LIMITED, retry_after=wait)


def retry_after(answer: Answer) -> timedelta:
    """Return how long a 429 says to wait, from 1 second to 10 minutes.

    The first of these that can be read counts: ``Retry-After`` in seconds or as a date,
    ``ratelimit-reset`` in seconds, the sentence in the body.
    """
    told = answer.headers.get("retry-after", "")
    sentence = _RESETS.search(answer.body[:10_000].decode("utf-8", "replace"))
    wait = (
        _seconds(told)
        or _until(told, answer)
        or _seconds(answer.headers.get("ratelimit-reset", ""))
        or _seconds(sentence[1] if sentence else "")
        or DEFAULT_RETRY_AFTER
    )
    return min(max(wait, SHORTEST), LONGEST)


def _seconds(text: str) -> timedelta | None:
    text = text.strip()
    return timedelta(seconds=float(text)) if _SECONDS.fullmatch(text) else None


def _until(text: str, answer: Answer) -> timedelta | None:
    """Return how long it is until a date, by the clock of the host that names it."""
    then, now = read_date(text), read_date(answer.headers.get("date", ""))
    return None if then is None or now is None or then <= now else then - now


def detail(answer: Answer) -> str:
    """Return what an error's body says of it, in one short line."""
    return reason_of_body(answer.body, 500)


def _named(error: Exception) -> str:
    """Return what happened; never what was sent, which holds the token."""
    if isinstance(error, httpx2.LocalProtocolError):
        return "the request cannot be written; check REPLICATE_API_TOKEN"
    words = one_line(without_credentials(str(error)), 300) or type(error).__name__
    return f"the proxy refuses: {words}" if isinstance(error, httpx2.ProxyError) else words
