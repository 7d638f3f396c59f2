"""Any input over a socket gets its documented error: never a 500, and nothing is stored."""

import json
import socket
from collections.abc import Generator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import pytest

from service_process import PATIENCE

JSON: Final = "application/json"
UNKNOWN: Final = "0198f000-0000-7000-8000-000000000000"
HUGE: Final = 320 * 1024  # beyond the limit by what a refused client sends on, however slow it is


@pytest.fixture(scope="module")
def http(server: str) -> Generator[httpx2.Client]:
    """Open a client of the running service."""
    with httpx2.Client(base_url=server, timeout=PATIENCE) as client:
        yield client


def stored(http: httpx2.Client) -> int:
    """Return the number of jobs."""
    return int(http.get("/metrics").json()["metrics"]["jobs_total"])


def with_prompt(**fields: Any) -> bytes:
    """Return a valid request with additional fields."""
    return json.dumps({"prompt": "x", **fields}).encode()


def raw_field(text: str) -> bytes:
    """Return a valid request with a field in raw JSON."""
    return b'{"prompt":"x","parameters":{"a":' + text.encode() + b"}}"


UNREADABLE: Final = {
    "empty": b"",
    "trailing brace": b'{"prompt":"x"}}',
    "lone surrogate": b'{"prompt":"\\ud800"}',
    "surrogate in a key": raw_field('{"\\udfff":1}'),
    "surrogate in a value": raw_field('"\\udfff"'),
    "NUL": b'{"prompt":"a\\u0000b"}',
    "2 to the 63rd": raw_field("9223372036854775808"),
    "1e400": raw_field("1e400"),
    "4301 digits": raw_field("1" * 4301),
    "NaN": raw_field("NaN"),
    "Infinity": raw_field("Infinity"),
    "minus Infinity": raw_field("-Infinity"),
    "1e999": raw_field("1e999"),
    "1000 levels": raw_field("[" * 1000 + "]" * 1000),
    "100,000 brackets": b"[" * 100_000,
    "doubled key": b'{"prompt":"a","prompt":"b"}',
    "UTF-16": '{"prompt":"x"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"prompt":"x"}',
    "not UTF-8": b"\xff\xfe",
    "6000 elements": raw_field(str([1] * 6000)),
    "a form": b"prompt=x",
    "XML": b"<prompt>x</prompt>",
}

INVALID: Final = {
    "null": b"null",
    "array": b"[]",
    "string": b'"x"',
    "number": b"1",
    "no prompt": b"{}",
    "prompt null": b'{"prompt":null}',
    "prompt number": b'{"prompt":1}',
    "prompt array": b'{"prompt":["x"]}',
    "prompt empty": b'{"prompt":""}',
    "prompt of spaces": b'{"prompt":"   "}',
    "prompt of zero-width spaces": '{"prompt":"\u200b\u200d\ufeff"}'.encode(),
    "prompt of 10,001": with_prompt(prompt="x" * 10_001),
    "prompt of 100,000": with_prompt(prompt="x" * 100_000),
    "status": with_prompt(status="completed"),
    "tenant": with_prompt(tenant_id="other"),
    "id": with_prompt(id=UNKNOWN),
    "cost": with_prompt(cost=0),
    "attempt": with_prompt(attempt=3),
    "external id": with_prompt(external_job_id="p"),
    "webhook to http": with_prompt(webhook_url="http://example.com/hook"),
    "webhook to a private network": with_prompt(webhook_url="https://10.0.0.1/hook"),
    "webhook to nowhere": with_prompt(webhook_url="https://"),
    "webhook number": with_prompt(webhook_url=1),
    "webhook events for nobody": with_prompt(webhook_events=["completed"]),
    "webhook events unknown": with_prompt(
        webhook_url="https://example.com", webhook_events=["done"]
    ),
    "model of dots": with_prompt(model_name="../../etc"),
    "model with a command": with_prompt(model_name="a/b:c;rm"),
    "model of 5000": with_prompt(model_name="a/" + "b" * 5000),
    "model empty": with_prompt(model_name=""),
    "model number": with_prompt(model_name=5),
    "two models": with_prompt(model="a/b", model_name="c/d"),
    "a model and models": with_prompt(model="a/b", models=["c/d"]),
    "models a string": with_prompt(models="a/b"),
    "11 models": with_prompt(models=["a/b"] * 11),
    "models of numbers": with_prompt(models=[1]),
    "models of commands": with_prompt(models=["a/b;rm"]),
    "models without a name": with_prompt(models=["openai:"]),
    "models of nobody": with_prompt(models=["nobody:a/b"]),
    "route unknown": with_prompt(route="scenic"),
    "strictness string": with_prompt(strict_parameters="false"),
    "parameters number": with_prompt(parameters=5),
    "parameters array": with_prompt(parameters=[]),
    "parameters in broken JSON": with_prompt(parameters="{"),
    "parameters with doubled keys": with_prompt(parameters='{"seed":1,"seed":2}'),
    "parameters NaN in a string": with_prompt(parameters='{"seed":NaN}'),
    "parameters array in a string": with_prompt(parameters="[]"),
    "prompt among parameters": with_prompt(parameters={"prompt": "y"}),
    "10,000 outputs": with_prompt(parameters={"num_outputs": 10_000}),
    "width 100,000": with_prompt(parameters={"width": 100_000}),
    "width -1": with_prompt(parameters={"width": -1}),
    "width 0": with_prompt(parameters={"width": 0}),
    "width true": with_prompt(parameters={"width": True}),
    "width string": with_prompt(parameters={"width": "64"}),
    "width float": with_prompt(parameters={"width": 64.0}),
    "parameter unknown": with_prompt(parameters={"no_such": 1}),
    "provider unknown": with_prompt(provider="nobody"),
    "provider number": with_prompt(provider=1),
    "metadata array": with_prompt(metadata=[]),
    "metadata over 4 KiB": with_prompt(metadata={"a": "x" * 4096}),
    "priority 10": with_prompt(priority=10),
    "priority -1": with_prompt(priority=-1),
    "priority float": with_prompt(priority=5.0),
    "priority true": with_prompt(priority=True),
    "priority string": with_prompt(priority="5"),
    "attempts 0": with_prompt(max_attempts=0),
    "attempts 21": with_prompt(max_attempts=21),
    "deadline 0": with_prompt(deadline_seconds=0),
    "deadline negative": with_prompt(deadline_seconds=-1),
    "deadline too far": with_prompt(deadline_seconds=1e300),
    "run_at number": with_prompt(run_at=1e9),
    "run_at digits": with_prompt(run_at="1700000000"),
    "run_at without a zone": with_prompt(run_at="2030-01-01T00:00:00"),
    "run_at that does not exist": with_prompt(run_at="2030-02-30T00:00:00Z"),
    "run_at before time": with_prompt(run_at="0001-01-01T00:00:00+23:59"),
    "run_at at the end of time": with_prompt(run_at="9999-12-31T23:59:59-23:59"),
    "run_at in two years": with_prompt(run_at="2099-01-01T00:00:00Z"),
    "run_at NaN": with_prompt(run_at="NaN"),
}

ROUTE: Final = "/api/v1/generate"


def test_unreadable_bodies_are_refused(http: httpx2.Client, subtests: pytest.Subtests) -> None:
    """400: the body cannot be parsed."""
    before = stored(http)

    for name, body in UNREADABLE.items():
        with subtests.test(name=name):
            answer = http.post(ROUTE, content=body, headers={"Content-Type": JSON})
            assert answer.status_code == 400
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "unreadable"
            assert stored(http) == before


def test_invalid_values_are_refused(http: httpx2.Client, subtests: pytest.Subtests) -> None:
    """422: the body can be parsed, and the error names the wrong field."""
    before = stored(http)

    for name, body in INVALID.items():
        with subtests.test(name=name):
            answer = http.post(ROUTE, content=body, headers={"Content-Type": JSON})
            assert answer.status_code == 422
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"]
            assert len(answer.content) < 4000
            assert stored(http) == before


def test_the_short_route_refuses_the_same(http: httpx2.Client) -> None:
    """It uses the same parser; all cases are tried on the long route."""
    headers = {"Content-Type": JSON}

    unreadable = http.post("/generate", content=UNREADABLE["NaN"], headers=headers)
    invalid = http.post("/generate", content=INVALID["attempts 21"], headers=headers)

    assert unreadable.json()["code"] == "unreadable"
    assert invalid.status_code == 422


HARMLESS: Final = {
    "SQL": "'; DROP TABLE jobs;--",
    "shell": "$(id) `id` ; rm -rf /",
    "template": "{{7*7}} {% x %} ${7*7}",
    "markup": "<img src=x onerror=alert(1)>",
    "format": "%s%n%x {0}",
    "formula": "=cmd|' /C calc'!A0",
    "log line": 'x\r\n{"level":"error"}',
    "terminal": "x\x1b[2Jy",
    "separators": "x\u2028\u2029y",
    "right to left": "x\u202ey",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈",
    "combining": "x" + "\u0301" * 500,
    "one character": "x",
    "10,000 characters": "x" * 10_000,
}


@pytest.mark.parametrize("prompt", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_prompt_is_stored_unchanged(http: httpx2.Client, prompt: str) -> None:
    """It is never interpreted."""
    made = http.post("/api/v1/generate", json={"prompt": prompt})

    shown = http.get(made.headers["location"])

    assert made.status_code == 201
    assert shown.json()["prompt"] == prompt


@pytest.mark.parametrize("key", ["__proto__", "constructor", "__class__", "", "a.b", "$where"])
def test_a_metadata_key_is_stored_unchanged(http: httpx2.Client, key: str) -> None:
    """It is returned as it was sent."""
    body = {"prompt": "x", "metadata": {key: {"polluted": True}}}

    answer = http.post("/api/v1/generate", json=body)

    assert answer.status_code == 201
    assert answer.json()["metadata"] == {key: {"polluted": True}}


KINDS: Final[Mapping[str, Mapping[str, str] | list[tuple[str, str]]]] = {
    "text": {"Content-Type": "text/plain"},
    "none": {},
    "form": {"Content-Type": "application/x-www-form-urlencoded"},
    "multipart": {"Content-Type": "multipart/form-data; boundary=x"},
    "almost": {"Content-Type": "application/jsonp"},
    "not json": {"Content-Type": "text/json"},
    "other charset": {"Content-Type": "application/json; charset=utf-16"},
    "gzip": {"Content-Type": JSON, "Content-Encoding": "gzip"},
    "deflate": {"Content-Type": JSON, "Content-Encoding": "deflate"},
    "br": {"Content-Type": JSON, "Content-Encoding": "br"},
    "zstd": {"Content-Type": JSON, "Content-Encoding": "zstd"},
    "two encodings": {"Content-Type": JSON, "Content-Encoding": "identity, gzip"},
    "two encoding headers": [
        ("Content-Type", JSON),
        ("Content-Encoding", "identity"),
        ("Content-Encoding", "gzip"),
    ],
    "two kinds": [("Content-Type", JSON), ("Content-Type", "text/plain")],
    "one kind twice": [("Content-Type", JSON), ("Content-Type", JSON)],
}


@pytest.mark.parametrize("headers", KINDS.values(), ids=KINDS.keys())
def test_other_content_types_are_refused(http: httpx2.Client, headers: Any) -> None:
    """Other sites can send plain text without permission; compressed bodies can explode."""
    answer = http.post("/api/v1/generate", content=with_prompt(), headers=headers)

    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "kind",
    ["application/json; charset=utf-8", "Application/JSON", "application/vnd.fleek+json"],
)
def test_content_types_of_json_are_accepted(http: httpx2.Client, kind: str) -> None:
    """Clients spell them in several ways."""
    answer = http.post("/api/v1/generate", content=with_prompt(), headers={"Content-Type": kind})

    assert answer.status_code == 201


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_a_too_large_body_is_refused(http: httpx2.Client, *, chunked: bool) -> None:
    """With or without a content length."""
    body = with_prompt(prompt="x" * HUGE)
    content: Any = (
        (body[at : at + 65536] for at in range(0, len(body), 65536)) if chunked else body
    )

    answer = http.post("/api/v1/generate", content=content, headers={"Content-Type": JSON})

    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"


IDS: Final = [
    *("1", "None", "null", "..", "..%2f..%2fetc%2fpasswd", "%00", "%ff", "x" * 9000),
    *(UNKNOWN.upper(), f"%7B{UNKNOWN}%7D", f"urn:uuid:{UNKNOWN}", UNKNOWN.replace("-", "")),
    *("a%0d%0aSet-Cookie:x=1", f"{UNKNOWN}%20", f"{UNKNOWN}%00", f"{UNKNOWN}%0a", "%C2%B2"),
    *("' OR 1=1--", "<script>", f"{UNKNOWN};x=1", f"{UNKNOWN},{UNKNOWN}", "%ED%A0%80"),
]


ODD: Final = [  # each name once as an id, a key and a file; every other route once
    *((route, name) for route in ("/api/v1/jobs/{}", "/media/{}", "/static/{}") for name in IDS),
    *(
        (route, name)
        for route in (
            "/api/v1/status/{}",
            "/api/v1/jobs/{}/metadata",
            "/api/v1/download/{}",
            "/status/{}",
        )
        for name in ("None", "..%2f..%2fetc%2fpasswd", UNKNOWN.upper())
    ),
]


def test_an_invalid_name_in_the_path_is_refused(
    server: str, http: httpx2.Client, subtests: pytest.Subtests
) -> None:
    """Only the canonical form counts; nothing is decoded twice or made into a path."""
    for route, name in ODD:
        with subtests.test(route=route, name=name[:40]):
            path = route.format(name)
            status, headers, body = exchange(
                server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            assert status in {400, 404, 422}
            assert "set-cookie" not in headers
            assert b"Traceback" not in body

    assert http.get("/livez").status_code == 200


PAGING: Final = {
    f"{name}={value}": f"{name}={value}"
    for name, values in {
        "limit": ["-1", "0", "101", "1000000000", "9223372036854775808", "1e3", "%00", "", "+5"],
        "offset": ["-5", "10001", "9" * 400, "1.0", "%205", "0x1", "true", "null"],
        "status_filter": ["foo", "", "COMPLETED", "pending,failed", "%00", "x" * 5000],
        "cursor": ["x", "", "%00", "A" * 21 + "B", "A" * 22 + "==", "A" * 5000, "../../etc"],
    }.items()
    for value in values
} | {
    "other digits": "limit=%EF%BC%91%EF%BC%92",
    "named twice": "limit=1&limit=2",
    "two cursors": "cursor=a&cursor=b",
}


def test_an_invalid_query_is_refused(http: httpx2.Client, subtests: pytest.Subtests) -> None:
    """A list with the wrong page is worse than an error."""
    for query in PAGING.values():
        with subtests.test(query=query[:40]):
            answer = http.get(f"/api/v1/jobs?{query}")
            assert answer.status_code == 422
            assert answer.headers["content-type"] == "application/problem+json"


def test_an_empty_query_is_accepted(http: httpx2.Client) -> None:
    """It is the same as no query."""
    answer = http.get("/api/v1/jobs?&&&")

    assert answer.status_code == 200


UNKNOWN_QUERIES: Final = [
    *("GET /api/v1/jobs?sort=created_at;DROP", "GET /api/v1/jobs?statuses=failed"),
    *("GET /api/v1/jobs?LIMIT=1", "GET /api/v1/jobs?%25%25=q", "HEAD /api/v1/jobs?page=2"),
    *(f"GET /api/v1/jobs/{UNKNOWN}?x", f"GET /api/v1/status/{UNKNOWN}?x=1"),
    *(f"GET /status/{UNKNOWN}?x=1", f"GET /media/{UNKNOWN}.png?width=320"),
    *(f"GET /api/v1/download/{UNKNOWN}?idx=1", f"GET /api/v1/jobs/{UNKNOWN}/metadata?x=1"),
    *("GET /api/v1/models?colour=red", "GET /api/v1/models/a/b?version=c"),
    *("GET /info?x=1", "GET /metrics?name=fleek_jobs", "GET /?x=1"),
    *("POST /api/v1/generate?again=true", "POST /generate?priority=9"),
    *(f"POST /api/v1/jobs/{UNKNOWN}/retry?again_=true", f"DELETE /api/v1/jobs/{UNKNOWN}?purge_=1"),
    *(f"POST /api/v1/jobs/{UNKNOWN}/cancel?purge=true", f"POST /api/v1/jobs/{UNKNOWN}/collect?x"),
]


@pytest.mark.parametrize("request_line", UNKNOWN_QUERIES)
def test_an_unknown_query_parameter_is_refused(http: httpx2.Client, request_line: str) -> None:
    """A typing error could list everything or start another prediction."""
    method, target = request_line.split(" ")
    before = stored(http)

    answer = http.request(method, target, content=with_prompt(), headers={"Content-Type": JSON})

    assert answer.status_code == 422
    assert stored(http) == before
    if method != "HEAD":
        (field,) = answer.json()["errors"]
        assert (field["location"], field["code"]) == ("query", "unknown")


@pytest.mark.parametrize(
    "path", ["/livez?t=1", "/health?t=1", "/docs?utm_source=x", "/openapi.json?x"]
)
def test_pages_and_probes_accept_any_query(http: httpx2.Client, path: str) -> None:
    """Monitors, trackers and caches add parameters, and these routes have none."""
    answer = http.get(path)

    assert answer.status_code == 200


WRITES: Final = [
    *("POST /api/v1/generate", "POST /generate", f"POST /api/v1/jobs/{UNKNOWN}/retry"),
    *(f"POST /api/v1/jobs/{UNKNOWN}/cancel", f"POST /api/v1/jobs/{UNKNOWN}/collect"),
    f"DELETE /api/v1/jobs/{UNKNOWN}",
]


@pytest.mark.parametrize("preference", ["wait", "wait=10", "respond-async, Wait = 10"])
@pytest.mark.parametrize("request_line", WRITES[3:])
def test_a_wait_on_other_routes_is_refused(
    http: httpx2.Client, request_line: str, preference: str
) -> None:
    """The caller would take the response for the end of the job."""
    method, target = request_line.split(" ")

    answer = http.request(method, target, headers={"Prefer": preference})

    assert answer.status_code == 422
    (field,) = answer.json()["errors"]
    assert (field["location"], field["pointer"]) == ("header", "/Prefer")


def test_other_preferences_are_ignored(http: httpx2.Client) -> None:
    """RFC 7240 requires it: preferences are optional."""
    headers = {"Prefer": "respond-async, waiting=1"}

    answer = http.post("/api/v1/generate", json={"prompt": "x"}, headers=headers)

    assert answer.status_code == 201


def test_a_method_in_a_header_is_ignored(http: httpx2.Client) -> None:
    """Only the method of the request line counts."""
    job = http.post("/api/v1/generate", json={"prompt": "x"}).json()

    answer = http.get(f"/api/v1/jobs/{job['id']}", headers={"X-HTTP-Method-Override": "DELETE"})

    assert answer.json()["status"] == "pending"


@pytest.mark.parametrize(
    "path",
    [
        "//api/v1/jobs",
        "/API/V1/JOBS",
        "/api/v1/jobs;x=1",
        "/api/v1/./jobs",
        "/api/v1/../v1/jobs",
        "/api//v1/jobs",
        f"/api/v1/jobs%2f{UNKNOWN}%2f",
    ],
)
def test_a_path_has_one_spelling(server: str, path: str) -> None:
    """Checks of one spelling must not be bypassed by another; nothing redirects."""
    status, headers, _ = exchange(
        server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    )

    assert status in {404, 422}
    assert "location" not in headers


RAW: Final = {
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "strange host": b"GET /livez HTTP/1.1\r\nHost: foo/bar?x\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "absolute address": b"GET http://evil/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "length and chunks": b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
    b"Content-Length: 5\r\n\r\nabcde",
    "length with a plus": b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: +4\r\n\r\nabcd",
    "negative length": b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "length beyond 64 bits": b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
    b"application/json\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "unknown encoding": b"POST /generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "space before the colon": b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "NUL in a header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: a\0b\r\n\r\n",
    "bare line feeds": b"GET /livez HTTP/1.1\nHost: localhost\n\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "other version": b"GET /livez HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "method in small letters": b"get /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "connect": b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n",
    "upgrade": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "websocket": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "address in Latin-1": b"GET /livez\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "query in Latin-1": b"GET /api/v1/jobs?limit=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "1 MB of address": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "200 KB of header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: "
    + b"a" * 200_000
    + b"\r\n\r\n",
    "5000 headers": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: a\r\n" * 5000 + b"\r\n",
    "chunk without a size": b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
    b"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "cut body": b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\n\r\n{",
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW.keys())
def test_invalid_http_is_answered_or_closed(server: str, http: httpx2.Client, data: bytes) -> None:
    """Never with a 500, and the next request is served."""
    before = stored(http)

    status, _, body = exchange(server, data, half_close=True)

    assert status < 500
    assert b"Traceback" not in body
    assert stored(http) == before


def test_a_body_in_single_bytes_is_read(server: str) -> None:
    """Slow sending is no error."""
    body = b'{"prompt":"x"}'
    chunks = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body) + b"0\r\n\r\n"
    head = (
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )

    status, _, _ = exchange(server, head + chunks)

    assert status == 200


def exchange(
    server: str, data: bytes, *, half_close: bool = False
) -> tuple[int, dict[str, str], bytes]:
    """Send bytes and return the first response: status (0: closed without one), headers, body."""
    address = urlsplit(server)
    assert address.hostname is not None
    place = address.hostname, address.port or 0
    with socket.create_connection(place, timeout=PATIENCE) as connection:
        with suppress(OSError):  # refused or closed while sending
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        received = b""
        with suppress(ConnectionError):
            while b"\r\n\r\n" not in received and (chunk := connection.recv(65536)):
                received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    if not head:
        return 0, {}, b""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body
