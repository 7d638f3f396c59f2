"""The response to a request that is refused before the application is called."""

import secrets
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from fleek.api.errors import PROBLEM_JSON, ErrorForm, Refusal, explain, problem, status_of
from fleek.domain.errors import FleekError, HostError

RETRY_SECONDS: Final = 2
ANY_ID: Final = "0" * 32  # in the place of a request's id


def response(
    error: FleekError,
    *,
    target: bytes,
    forms: Mapping[str, ErrorForm],
    default_headers: list[tuple[bytes, bytes]],
) -> bytes:
    """Return a complete HTTP response with Connection: close.

    It has a problem document or, below a path whose first part is a key of `forms`, an error in that form.
    `target`: of the request, as far as it was received.
    """
    retries = isinstance(error, HostError)
    form = forms.get(_first_part(target))
    line, rest = _parts(status_of(type(error)), error.code, explain(error), form, retries=retries)
    headers = b"".join([name + b": " + value + b"\r\n" for name, value in default_headers])
    request_id = secrets.token_hex(16).encode()
    return line + headers + rest.replace(ANY_ID.encode(), request_id)


def _first_part(target: bytes) -> str:
    path = target.partition(b"?")[0].decode("latin-1")
    return unquote(path)[1:].partition("/")[0]


@lru_cache(maxsize=256)
def _parts(
    status: int, code: str, detail: str, form: ErrorForm | None, *, retries: bool
) -> tuple[bytes, bytes]:
    """Return the first line of a response, and what follows the default headers."""
    given = {"Retry-After": str(RETRY_SECONDS)} if retries else {}
    if form is None:
        content = problem(status, code, detail, request_id=ANY_ID).model_dump_json().encode()
        headers = [
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", b"%d" % len(content)),
            *((name.lower().encode(), value.encode()) for name, value in given.items()),
        ]
    else:
        refusal = Refusal(
            status=status, code=code, detail=detail, errors=(), headers=given, request_id=ANY_ID
        )
        presented = form(refusal)
        status, content = presented.status_code, bytes(presented.body)
        headers = presented.raw_headers
    lines = [name + b": " + value for name, value in headers]
    lines += [b"x-request-id: " + ANY_ID.encode(), b"connection: close"]
    line = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
    return line, b"\r\n".join([*lines, b"", content])
