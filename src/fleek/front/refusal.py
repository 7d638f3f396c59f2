"""The response to a request that is refused before the application is called."""

import secrets
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from fleek.api.errors import PROBLEM_JSON, explain, problem, status_of
from fleek.domain.errors import FleekError, HostError

RETRY_SECONDS: Final = 2
ANY_ID: Final = "0" * 32  # in the place of a request's id


def response(error: FleekError, *, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return a complete HTTP response with a problem document and Connection: close."""
    status = status_of(type(error))
    line, rest = _parts(status, error.code, explain(error), retries=isinstance(error, HostError))
    headers = b"".join([name + b": " + value + b"\r\n" for name, value in default_headers])
    request_id = secrets.token_hex(16).encode()
    return line + headers + rest.replace(ANY_ID.encode(), request_id)


@lru_cache(maxsize=64)
def _parts(status: int, code: str, detail: str, *, retries: bool) -> tuple[bytes, bytes]:
    """Return the first line of a response, and what follows the default headers."""
    phrase = HTTPStatus(status).phrase
    content = problem(status, code, detail, request_id=ANY_ID).model_dump_json().encode()
    lines = [
        b"content-type: " + PROBLEM_JSON.encode(),
        b"content-length: %d" % len(content),
        b"x-request-id: " + ANY_ID.encode(),
        b"connection: close",
    ]
    if retries:
        lines.append(b"retry-after: %d" % RETRY_SECONDS)
    line = b"HTTP/1.1 %d %s\r\n" % (status, phrase.encode())
    return line, b"\r\n".join([*lines, b"", content])
