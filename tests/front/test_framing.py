"""Requests that violate HTTP/1.1 are refused: a proxy might read them differently."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import pytest

from in_process_service import LIVE, Serving

SHORT: Final = {
    "keep_alive_seconds": timedelta(seconds=0.2),
    "request_header_seconds": timedelta(seconds=0.2),
}
HEAD: Final = (
    b"POST /api/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
BODY: Final = b'{"prompt":"x"}'
CHUNKED: Final = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED: Final[Mapping[str, tuple[bytes, int, str]]] = {
    "length and chunks": (
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "unreadable",
    ),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400, "unreadable"),
    "a plus": (HEAD + b"Content-Length: +2\r\n\r\n{}", 400, "unreadable"),
    "negative": (HEAD + b"Content-Length: -1\r\n\r\n", 400, "unreadable"),
    "unknown encoding": (
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        400,
        "unreadable",
    ),
    "chunked is not last": (
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        400,
        "unreadable",
    ),
    "compressed chunks": (
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\ne\r\n" + BODY + b"\r\n0\r\n\r\n",
        400,
        "unreadable",
    ),
    "compressed, then chunked": (
        HEAD
        + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n"
        + BODY
        + b"\r\n0\r\n\r\n",
        400,
        "unreadable",
    ),
    "chunks in HTTP/1.0": (CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", 400, "unreadable"),
    "upgrade with a body": (
        HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 14\r\n\r\n" + BODY,
        400,
        "unreadable",
    ),
    "space before the colon": (LIVE + b"X-A : b\r\n\r\n", 400, "unreadable"),
    "folded field": (LIVE + b"X-A: b\r\n c\r\n\r\n", 400, "unreadable"),
    "bare line feeds": (LIVE.replace(b"\r\n", b"\n") + b"\n", 400, "unreadable"),
    "bare carriage return": (LIVE + b"X-A: a\rb\r\n\r\n", 400, "unreadable"),
    "NUL": (LIVE + b"X-A: a\0b\r\n\r\n", 400, "unreadable"),
    "whole address": (
        b"GET http://localhost/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        400,
        "unreadable",
    ),
    "connect": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 400, "unreadable"),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400, "unknown_host"),
    "no host in HTTP/1.0": (b"GET /livez HTTP/1.0\r\n\r\n", 400, "unknown_host"),
    "two hosts": (LIVE + b"Host: localhost\r\n\r\n", 400, "unknown_host"),
    "a second host in the trailers": (
        b"GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: localhost\r\n\r\n",
        400,
        "unknown_host",
    ),
    "8 MB in one field": (
        LIVE + b"X-A: " + b"a" * 8_000_000 + b"\r\n\r\n",
        431,
        "headers_too_large",
    ),
    "5000 fields": (LIVE + b"X-A: a\r\n" * 5000 + b"\r\n", 431, "headers_too_large"),
    "200 KB of address": (
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        414,
        "uri_too_long",
    ),
    "1 MB of chunk extensions": (
        CHUNKED + b"e;" + b"x" * 1_000_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        400,
        "unreadable",
    ),
    "1 MB of trailers": (
        CHUNKED + b"e\r\n" + BODY + b"\r\n0\r\nX-A: " + b"x" * 1_000_000 + b"\r\n\r\n",
        400,
        "unreadable",
    ),
    "100,000 chunks of one byte": (
        CHUNKED + b"1\r\n \r\n" * 100_000 + b"0\r\n\r\n",
        400,
        "unreadable",
    ),
}


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_malformed_requests_are_refused(serving: Serving) -> None:
    """Each gets a status and a problem, and the connection is closed."""
    async with serving(**SHORT) as service:
        found = {name: await service.exchange(data) for name, (data, _, _) in REFUSED.items()}

    assert {name: (answer.statuses, answer.code) for name, answer in found.items()} == {
        name: ([status], code) for name, (_, status, code) in REFUSED.items()
    }


ACCEPTED: Final[Mapping[str, tuple[bytes, list[int]]]] = {
    "31 KB of header": (LIVE + b"X-A: " + b"a" * 31_000 + b"\r\n\r\n", [200]),
    "chunks in capitals": (
        CHUNKED.replace(b"chunked", b"Chunked") + b"e\r\n" + BODY + b"\r\n0\r\n\r\n",
        [201],
    ),
    "a trailer": (CHUNKED + b"e\r\n" + BODY + b"\r\n0\r\nX-A: b\r\n\r\n", [201]),
    "an upgrade that is not offered": (
        LIVE + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + LIVE + b"\r\n",
        [200, 200],
    ),
    "20 requests at once": ((LIVE + b"\r\n") * 20, [200] * 20),
    "a thousand requests at once": ((LIVE + b"\r\n") * 1000, [200] * 33),
    "rubbish behind a request": (LIVE + b"\r\nrubbish\r\n\r\n", [200]),
}


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_valid_requests_are_served(serving: Serving) -> None:
    """Garbage after a request does not affect its response."""
    async with serving(**SHORT) as service:
        found = {name: await service.exchange(data) for name, (data, _) in ACCEPTED.items()}

    assert {name: answer.statuses for name, answer in found.items()} == {
        name: statuses for name, (_, statuses) in ACCEPTED.items()
    }


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_refusal_can_be_read_while_sending(serving: Serving, close: bytes) -> None:
    """The response precedes the end of the body; a reset would discard it."""
    body = b" " * 4_000_000
    head = HEAD + close + b"Content-Length: %d\r\n\r\n" % len(body)

    async with serving(**SHORT) as service:
        answer = await service.exchange(head + body)

    assert (answer.statuses, answer.code) == ([413], "too_large")
