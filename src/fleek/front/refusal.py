"""The response to a request that is refused before the application is called."""

import secrets
from http import HTTPStatus
from typing import Final

from fleek.api.errors import PROBLEM_JSON, explain, problem, status_of
from fleek.domain.errors import FleekError, HostError

RETRY_SECONDS: Final = 2


def response(error: FleekError, *, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return a complete HTTP response with a problem document and Connection: close."""
    request_id = secrets.token_hex(16)
    status = HTTPStatus(status_of(type(error)))
    body = problem(status, error.code, explain(error), request_id=request_id)
    content = body.model_dump_json().encode()
    headers = [
        *default_headers,
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", b"%d" % len(content)),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    if isinstance(error, HostError):
        headers.append((b"retry-after", b"%d" % RETRY_SECONDS))
    lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode())]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", content])
