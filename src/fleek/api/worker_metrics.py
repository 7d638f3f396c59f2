"""The metrics of a process that runs a worker only: one address, for monitors."""

import asyncio
import hmac
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Final

import structlog
from fastapi.requests import Request
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)

from fleek.api.access import is_local, presented_key
from fleek.api.metrics import exposition
from fleek.domain.errors import AmbiguousCredentials, ConfigurationError
from fleek.engine.runtime import Runtime

MAX_HEAD: Final = 16_384  # bytes
SECONDS: Final = 5.0  # for one request
METHODS: Final = frozenset({"GET", "HEAD"})

log = structlog.get_logger(__name__)


@asynccontextmanager
async def serve_worker_metrics(rt: Runtime, port: int) -> AsyncGenerator[None]:
    """Answer ``GET /metrics`` on this port of `API_HOST` for as long as the block runs.

    Callers on this machine may read them, and others with `METRICS_TOKEN`.

    Raises:
        ConfigurationError: The port cannot be used.
    """
    registry = CollectorRegistry()
    registry.register(rt.metrics.registry)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    host = rt.settings.api_host
    try:
        answer = partial(_answer, rt, registry)
        server = await asyncio.start_server(answer, host, port, limit=MAX_HEAD)
    except OSError as error:
        raise ConfigurationError(
            f"WORKER_METRICS_PORT: cannot listen on {host}:{port}: {error.strerror}"
        ) from error
    log.info("metrics_served", host=host, port=port)
    try:
        yield
    finally:
        server.close()


async def _answer(
    rt: Runtime,
    registry: CollectorRegistry,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Answer one request, and close the connection."""
    with suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            request = _read(head, writer.get_extra_info("peername"))
            status = HTTPStatus.BAD_REQUEST if request is None else _status(rt, request)
            body, kind = b"", "text/plain"
            if request is not None and status is HTTPStatus.OK:
                body, kind = exposition(registry, request.headers.get("accept", ""))
            writer.write(_head(status, kind, len(body)))
            if request is not None and request.method != "HEAD":
                writer.write(body)
            await writer.drain()
    writer.close()


def _read(head: bytes, peer: tuple[str, int]) -> Request | None:
    """Return a request without its body; None: it is not HTTP."""
    line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    parts = line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return None
    pairs = [field.partition(":") for field in fields]
    headers = [
        (name.lower().encode("latin-1"), value.strip().encode("latin-1"))
        for name, _, value in pairs
    ]
    scope = {
        "type": "http",
        "method": parts[0],
        "path": parts[1].partition("?")[0],
        "headers": headers,
        "client": peer[:2],
    }
    return Request(scope)


def _status(rt: Runtime, request: Request) -> HTTPStatus:
    if request.scope["path"] != "/metrics":
        return HTTPStatus.NOT_FOUND
    if request.method not in METHODS:
        return HTTPStatus.METHOD_NOT_ALLOWED
    if is_local(request):
        return HTTPStatus.OK
    token, key = rt.settings.metrics_token, None
    with suppress(AmbiguousCredentials):
        key = presented_key(request.headers)
    if token is None or key is None:
        return HTTPStatus.UNAUTHORIZED
    known = hmac.compare_digest(token.get_secret_value().encode(), key.encode())
    return HTTPStatus.OK if known else HTTPStatus.UNAUTHORIZED


def _head(status: HTTPStatus, kind: str, length: int) -> bytes:
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    )
    return "\r\n".join([*lines, "", ""]).encode()
