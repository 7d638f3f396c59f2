"""Requests and answers of httpx2 without input and output: shared by both clients."""

import os
import re
import ssl
from collections.abc import Container, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2

from fleek.client import errors
from fleek.client.errors import ResponseLost, ServerError, ServerUnreachable
from fleek.domain.errors import ConfigurationError

DEFAULT_URL: Final = "http://127.0.0.1:8000"
HOST: Final = re.compile(r"[\w.:-]+")
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful JSON answer."""

    value: Any
    next_cursor: str | None  # of the next page of a list; None: this was the last


def server_url(url: str | None) -> httpx2.URL:
    """Read the server's address; None is the one in the environment, else this machine's.

    Raises:
        ConfigurationError: It is not an HTTP or HTTPS URL.
    """
    if url is None:
        url = os.environ.get("FLEEK_URL") or DEFAULT_URL  # noqa: TID251 - the caller's, as the key
    try:
        parsed = httpx2.URL(url.strip().rstrip("/"))
    except (httpx2.InvalidURL, UnicodeError):
        parsed = httpx2.URL()
    known = parsed.scheme in {"http", "https"} and HOST.fullmatch(parsed.host)
    if not known or parsed.userinfo:
        raise ConfigurationError(
            "FLEEK_URL: must be http://host:port or https://host, without a user name"
        )
    return parsed


def options(url: str | None, timeout: float) -> dict[str, Any]:
    """Return the arguments for both clients of httpx2.

    Raises:
        ConfigurationError: `url` is not an HTTP or HTTPS URL.
    """
    base = server_url(url)
    trust_env = base.host not in LOOPBACK  # a proxy cannot reach our own loopback
    return {
        "base_url": base,
        "timeout": httpx2.Timeout(timeout, connect=min(timeout, 5.0)),
        "trust_env": trust_env,
        "verify": _certificates(trust_env=trust_env),
        "headers": {"accept-encoding": "identity", "user-agent": "fleek"},
    }


@cache
def _certificates(*, trust_env: bool) -> ssl.SSLContext:
    """Return the system's certificates, read once per process: each reading takes 50 ms."""
    return httpx2.create_ssl_context(trust_env=trust_env)


def same_origin(first: httpx2.URL, second: httpx2.URL) -> bool:
    """Whether two URLs have the same origin: the key is sent to one origin only."""
    return _origin(first) == _origin(second)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def next_hop(response: httpx2.Response) -> httpx2.URL:
    """Return the target of a redirected download.

    Raises:
        ServerError: There is none, or it is not safe to follow.
    """
    here = response.request.url
    try:
        there = here.join(response.headers["location"])
    except (KeyError, httpx2.InvalidURL) as error:
        raise ServerError("the redirect of the download has no valid target") from error
    if there.scheme not in {"https", here.scheme}:
        raise ServerError("the download redirects from https to an insecure URL")
    return there


@contextmanager
def translate_errors(url: httpx2.URL) -> Generator[None]:
    """Translate connection errors.

    Raises:
        ServerUnreachable: Nothing was sent.
        ResponseLost: The request was sent and its answer was lost.
    """
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
        raise ServerUnreachable(f"{url} cannot be reached: {_reason(error)}") from error
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise ResponseLost(f"{url} sent no complete answer: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__


def read(
    response: httpx2.Response, content: bytes, *, accept_statuses: Container[int] = ()
) -> Answer:
    """Return the content of an answer; a status in `accept_statuses` is no error.

    Raises:
        FleekError: The request was refused; the class says why.
        ServerError: The answer is not Fleek's.
    """
    fine = response.is_success or response.status_code in accept_statuses
    if response.is_error and not fine:
        raise errors.refusal(response, content)
    if not fine:
        where = response.headers.get("location", "elsewhere")
        raise ServerError(f"the server redirects to {where}; use that address if it is Fleek's")
    value = errors.parsed(response, content)
    cursors = parse_qs(urlsplit(response.links.get("next", {}).get("url", "")).query).get("cursor")
    return Answer(value, cursors[0] if cursors else None)


def read_text(response: httpx2.Response, content: bytes) -> str:
    """Return the text of an answer.

    Raises:
        FleekError: The request was refused; the class says why.
        ServerError: The answer is not Fleek's.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if response.is_success and kind == "text/plain":
        return content.decode(errors="replace")
    read(response, content)
    raise ServerError(f"{response.request.url} answers with {kind or 'nothing'}, not with text")
