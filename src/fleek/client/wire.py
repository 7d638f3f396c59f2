"""Requests and answers without input and output: shared by both clients."""

import json
import os
import re
import ssl
from collections.abc import Container, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID, uuid4

import httpx2
from pydantic import BaseModel, ValidationError

from fleek.client import errors
from fleek.client.errors import ResponseLost, ServerError, ServerUnreachable
from fleek.domain.errors import ConfigurationError, InvalidInput
from fleek.domain.idempotency import KEY
from fleek.domain.job import MODEL_NAME

MAX_ANSWER_BYTES: Final = 32 * 1_048_576
"""Largest JSON answer that is read; files have no limit."""

DEFAULT_URL: Final = "http://127.0.0.1:8000"
HOST: Final = re.compile(r"[\w.:-]+")

UPLOADS: Final = "/api/v1/uploads"
BATCHES: Final = "/api/v1/batches"
ENDPOINTS: Final = "/api/v1/webhooks/endpoints"
DELIVERIES: Final = "/api/v1/webhooks/deliveries"
MESSAGE_ID: Final = re.compile(r"msg_[0-9a-f]{32}")

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

ModelT = TypeVar("ModelT", bound=BaseModel)


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


def bearer(api_key: str | None) -> str | None:
    """Return the value of the Authorization header; None without a key.

    None is the key in the environment, an empty text is none.

    Raises:
        ConfigurationError: The key contains characters that are not allowed in one.
    """
    if api_key is None:
        api_key = os.environ.get("FLEEK_API_KEY")  # noqa: TID251 - the caller's, not the service's
    if not api_key:
        return None
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ConfigurationError(
            "FLEEK_API_KEY: contains characters that are not allowed in a key"
        )
    return f"Bearer {api_key}"


def idempotency(key: str | None) -> dict[str, str]:
    """Return the header of a request that creates a job; None: a new key, for its retries.

    Raises:
        InvalidInput: The key contains characters that are not allowed in one.
    """
    if key is None:
        key = str(uuid4())
    elif KEY.fullmatch(key) is None:
        raise InvalidInput("idempotency_key: must be 1-255 visible ASCII characters")
    return {"idempotency-key": key}


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


def models_path(**asked: str | bool | None) -> str:
    """Return the path of a list of models; conditions that are None are left out."""
    given = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in asked.items()
        if value is not None
    }
    return f"/api/v1/models?{urlencode(given)}" if given else "/api/v1/models"


def model_path(name: str) -> str:
    """Return the path that describes a model.

    Raises:
        InvalidInput: The name is not well-formed.
    """
    if MODEL_NAME.fullmatch(name) is None:
        raise InvalidInput(f"{name!r} is not a valid model name; use owner/name")
    return f"/api/v1/models/{name}"


def events_path(job_id: UUID | str | None) -> str:
    """Return the path of the events of a job; None: of all jobs.

    Raises:
        InvalidInput: The id is not a UUID.
    """
    return "/api/v1/events" if job_id is None else job_path(job_id, "events")


def job_path(job_id: UUID | str, *rest: str, root: str = "jobs") -> str:
    """Return the path of a job, or one below it.

    Raises:
        InvalidInput: The id is not a UUID.
    """
    try:
        known = UUID(str(job_id))
    except ValueError:
        raise InvalidInput(f"{str(job_id)[:60]!r} is not a job id") from None
    return "/".join(("/api/v1", root, str(known), *rest))


def endpoint_path(endpoint_id: UUID | str, *rest: str) -> str:
    """Return the path of an endpoint of webhooks, or one below it.

    Raises:
        InvalidInput: The id is not a UUID.
    """
    try:
        known = UUID(str(endpoint_id))
    except ValueError:
        raise InvalidInput(f"{str(endpoint_id)[:60]!r} is not an endpoint id") from None
    return "/".join((ENDPOINTS, str(known), *rest))


def delivery_path(delivery_id: str, *rest: str) -> str:
    """Return the path of a delivery, or one below it.

    Raises:
        InvalidInput: The id is not one of a delivery.
    """
    if MESSAGE_ID.fullmatch(delivery_id) is None:
        raise InvalidInput(f"{delivery_id[:60]!r} is not a delivery id; it begins with msg_")
    return "/".join((DELIVERIES, delivery_id, *rest))


def upload_path(upload_id: UUID | str) -> str:
    """Return the path of an upload; its reference, `upload:ID`, names it as well.

    Raises:
        InvalidInput: The id is not a UUID.
    """
    text = str(upload_id).removeprefix("upload:")
    try:
        return f"{UPLOADS}/{UUID(text)}"
    except ValueError:
        raise InvalidInput(f"{text[:60]!r} is not an upload id") from None


def batch_path(batch_id: UUID | str, *rest: str) -> str:
    """Return the path of a batch, or one below it.

    Raises:
        InvalidInput: The id is not a UUID.
    """
    try:
        known = UUID(str(batch_id))
    except ValueError:
        raise InvalidInput(f"{str(batch_id)[:60]!r} is not a batch id") from None
    return "/".join((BATCHES, str(known), *rest))


def lines(requests: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the requests of a batch as JSON Lines.

    Raises:
        InvalidInput: A value cannot be serialized as JSON.
    """
    return b"\n".join(body(request) for request in requests)


def file_content(file: Path | str | bytes) -> bytes:
    """Return the bytes of a file to be uploaded.

    Raises:
        InvalidInput: It cannot be read.
    """
    if isinstance(file, bytes):
        return file
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error


def given(fields: Mapping[str, str | None]) -> dict[str, str]:
    """Return the parameters of a query, without those that are None."""
    return {name: value for name, value in fields.items() if value is not None}


def body(fields: Mapping[str, Any]) -> bytes:
    """Return the JSON body of a request, without the fields that are None.

    Raises:
        InvalidInput: A value cannot be serialized as JSON.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return json.dumps(given, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot be serialized as JSON: {error}") from error


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


def parse(kind: type[ModelT], value: Any) -> ModelT:
    """Read a value of the wire format.

    Raises:
        ServerError: It is not one.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise ServerError(f"the server's answer is not a {kind.__name__} of version 1") from error


def mapping(value: Any) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        ServerError: It is not one.
    """
    if not isinstance(value, dict):
        raise ServerError("the server's answer is not an object")
    return value


def parse_list(kind: type[ModelT], value: Any) -> list[ModelT]:
    """Read a list of values of the wire format.

    Raises:
        ServerError: It is not one.
    """
    if not isinstance(value, list):
        raise ServerError("the server's answer is not a list")
    return [parse(kind, item) for item in value]
