"""The metrics of a worker process: one route with access control, for any input."""

import asyncio
from dataclasses import replace

import pytest
from pydantic import SecretStr

from backing_services import free_port
from fleek.api.worker_metrics import MAX_HEAD, serve_worker_metrics
from fleek.domain.errors import ConfigurationError
from fleek.engine.runtime import Runtime

TOKEN = "t" * 40
LOCAL = b"Host: localhost\r\n"
REMOTE = b"Host: worker.example\r\nX-Forwarded-For: 203.0.113.7\r\n"


def with_token(rt: Runtime) -> Runtime:
    """Return the runtime with a token for monitors."""
    return replace(rt, settings=rt.settings.model_copy(update={"metrics_token": SecretStr(TOKEN)}))


async def exchange(rt: Runtime, request: bytes) -> bytes:
    """Return the whole response to some bytes."""
    port = free_port()
    async with serve_worker_metrics(rt, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        if request[-4:] != b"\r\n\r\n":
            writer.write_eof()
        answer = await reader.read()
        writer.close()
    return answer


async def test_local_callers_read_the_metrics(rt: Runtime) -> None:
    """With those of the process, in the format of Prometheus."""
    rt.metrics.steps.labels("completed").inc()

    answer = await exchange(rt, b"GET /metrics HTTP/1.1\r\n" + LOCAL + b"\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"text/plain; version=" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert b'fleek_job_steps_total{event="completed"} 1.0' in body
    assert b"process_cpu_seconds_total" in body
    assert b"fleek_jobs{" not in body  # of the database: only the API has it


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (b"", b"401"),
        (b"Authorization: Bearer %s\r\n" % TOKEN.encode(), b"200"),
        (b"X-API-Key: %s\r\n" % TOKEN.encode(), b"200"),
        (b"X-API-Key: %s\r\n" % TOKEN[:-1].encode(), b"401"),
        (b"X-API-Key: a\r\nX-API-Key: %s\r\n" % TOKEN.encode(), b"401"),
    ],
)
async def test_remote_callers_need_the_token(rt: Runtime, shown: bytes, expected: bytes) -> None:
    """As on `/metrics` of the API."""
    request = b"GET /metrics HTTP/1.1\r\n" + REMOTE + shown + b"\r\n"

    assert (await exchange(with_token(rt), request)).split(b" ")[1] == expected


async def test_remote_callers_are_refused_without_a_configured_token(rt: Runtime) -> None:
    """An empty token is refused, too."""
    request = b"GET /metrics HTTP/1.1\r\n" + REMOTE + b"Authorization: Bearer \r\n\r\n"

    assert (await exchange(rt, request)).split(b" ")[1] == b"401"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET / HTTP/1.1\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n", b"405"),
        (b"HEAD /metrics?x=1 HTTP/1.1\r\n", b"200"),
        (b"GET /metrics\r\n", b"400"),
        (b"\xff\xfe\r\n", b"400"),
    ],
)
async def test_other_requests_are_refused(rt: Runtime, request_: bytes, expected: bytes) -> None:
    """There is one route."""
    answer = await exchange(rt, request_ + LOCAL + b"\r\n")

    assert answer.split(b" ")[1] == expected
    assert (b"fleek_" in answer) == (expected == b"200" and not request_.startswith(b"HEAD"))


@pytest.mark.parametrize("request_", [b"", b"GET /met", b"x" * (2 * MAX_HEAD)])
async def test_an_invalid_request_gets_no_response(rt: Runtime, request_: bytes) -> None:
    """The connection is closed."""
    assert await exchange(rt, request_) == b""


async def test_a_used_port_is_reported_in_one_line(rt: Runtime) -> None:
    """Two workers on one machine need two ports."""
    port = free_port()
    async with serve_worker_metrics(rt, port):
        with pytest.raises(ConfigurationError, match=f"WORKER_METRICS_PORT: .*:{port}: "):
            async with serve_worker_metrics(rt, port):
                pass
