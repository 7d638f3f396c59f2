"""HTTP requests of the synchronous client."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, Final, TypeVar

import httpx2

from fleek.client import errors, exchange, saving, wire
from fleek.client.errors import ServerError
from fleek.client.events import DONE
from fleek.client.retry_policy import RetryPolicy
from fleek.domain.errors import FleekError

T = TypeVar("T")

Write = Callable[[], AbstractContextManager[saving.HashedFile]]

STREAM_TIMEOUT: Final = httpx2.Timeout(45.0, connect=5.0)  # it sends something every 15 seconds
MAX_HOPS: Final = 3  # redirects of one download


class Connection:
    """Sends requests to one server: with retries where they are safe, and the API key nowhere else."""

    def __init__(
        self,
        url: str | None,
        *,
        api_key: str | None,
        timeout: float,
        transport: httpx2.BaseTransport | None,
        retry_policy: RetryPolicy,
        event_hooks: Mapping[str, list[Callable[..., Any]]] | None = None,
    ) -> None:
        self._bearer = wire.bearer(api_key)
        self._retry_policy = retry_policy
        self._http = httpx2.Client(
            transport=transport, event_hooks=event_hooks, **exchange.options(url, timeout)
        )

    @property
    def url(self) -> str:
        """The address of the server."""
        return str(self._http.base_url).rstrip("/")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        idempotent: bool = True,
        accept_statuses: Container[int] = (),
        **request: Any,
    ) -> exchange.Answer:
        """Send a request and return its JSON answer.

        Args:
            method: The HTTP method.
            path: The path, or a whole address.
            idempotent: Whether the request can be repeated without a second effect; one that
                creates a job can, by its idempotency key.
            accept_statuses: Error statuses whose body is an answer all the same.
            request: Further arguments of `httpx2.Client.build_request`.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        send = partial(self._send, method, path, accept_statuses=accept_statuses, **request)
        return self._retry(send, idempotent=idempotent)

    def text(self, path: str) -> str:
        """Return a text.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        return self._retry(partial(self._text, path), idempotent=True)

    def fetch(self, path: str, to: Path, *, sha256: str | None) -> None:
        """Download `path` into the file `to`, and check its SHA-256, if it is known.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        write = partial(saving.atomic_file, to, sha256=sha256)
        self._retry(partial(self._fetch, path, write), idempotent=True)

    def open(self, path: str, *, sha256: str | None) -> BinaryIO:
        """Download `path`, check its SHA-256, if it is known, and return it as an open file.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        write = partial(saving.temporary_file, sha256=sha256)
        return self._retry(partial(self._fetch, path, write), idempotent=True)

    def stream(self, path: str, *, last_event_id: str | None) -> Iterator[bytes]:
        """Yield what an event stream sends until it is cut off or ends.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        headers = {} if last_event_id is None else {"last-event-id": last_event_id}
        request = self._request("GET", path, headers=headers, timeout=STREAM_TIMEOUT)
        with exchange.translate_errors(self._http.base_url):
            response = self._http.send(request, stream=True)
            try:
                if response.status_code == 204:
                    yield DONE
                elif not response.is_success:
                    raise errors.refusal(response, self._content(response))
                else:
                    yield from response.iter_bytes()
            finally:
                response.close()

    def _retry(self, ask: Callable[[], T], *, idempotent: bool) -> T:
        began, attempt = monotonic(), 0
        while True:
            attempt += 1
            try:
                return ask()
            except FleekError as error:
                delay = self._retry_policy.retry_delay(
                    error, tried=attempt, idempotent=idempotent, seconds=monotonic() - began
                )
                if delay is None:
                    raise
            time.sleep(delay)

    def _send(
        self, method: str, path: str, *, accept_statuses: Container[int], **request: Any
    ) -> exchange.Answer:
        with exchange.translate_errors(self._http.base_url):
            response = self._http.send(self._request(method, path, **request), stream=True)
            try:
                return exchange.read(
                    response, self._content(response), accept_statuses=accept_statuses
                )
            finally:
                response.close()

    def _text(self, path: str) -> str:
        with exchange.translate_errors(self._http.base_url):
            response = self._http.send(self._request("GET", path), stream=True)
            try:
                content = self._content(response)
            finally:
                response.close()
        return exchange.read_text(response, content)

    def _request(self, method: str, url: httpx2.URL | str, **options: Any) -> httpx2.Request:
        request = self._http.build_request(method, url, **options)
        if "content" in options and "content-type" not in options.get("headers", ()):
            request.headers["content-type"] = "application/json"
        if self._bearer and exchange.same_origin(request.url, self._http.base_url):
            request.headers["authorization"] = self._bearer
        return request

    def _content(self, response: httpx2.Response) -> bytes:
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > wire.MAX_ANSWER_BYTES:
                raise ServerError(f"the answer has more than {wire.MAX_ANSWER_BYTES} bytes")
        return bytes(content)

    def _fetch(self, url: httpx2.URL | str, write: Write) -> BinaryIO:
        for _ in range(MAX_HOPS + 1):
            with exchange.translate_errors(self._http.base_url):
                response = self._http.send(self._request("GET", url), stream=True)
                try:
                    if response.is_success:
                        return self._save(response, write)
                    if not response.is_redirect:
                        raise errors.refusal(response, self._content(response))
                    url = exchange.next_hop(response)
                finally:
                    response.close()
        raise ServerError("too many redirects of the download")

    def _save(self, response: httpx2.Response, write: Write) -> BinaryIO:
        with write() as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
        return file.file
