"""The outermost middleware: request ids, request metrics, and paths with a slash at their end."""

import logging
import random
import re
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Final

import structlog
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleek.api.deps import JOB_ID
from fleek.api.headers import headers_of
from fleek.api.metrics import HttpMetrics, method_of
from fleek.api.peers import Peers, caller_address
from fleek.api.request_rates import Quota
from fleek.telemetry import is_written
from fleek.tracing import TRACEPARENT, span

log = structlog.get_logger(__name__)

QUIET: Final = frozenset({"/livez", "/readyz", "/health", "/metrics", "/static/{name:path}"})
ERRORS: Final = 500  # and more: the service's own
VALID_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestIdMiddleware:
    """Adds ``X-Request-ID`` and the rate limit to every response, counts and logs it.

    A valid id of the caller is kept, so that a request can be traced through several services.
    """

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics, proxies: Peers) -> None:
        self._app = app
        self._metrics = metrics
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _drop_trailing_slash(scope)
        request_id = _request_id(_header(scope, b"x-request-id"))
        scope["fleek.request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = perf_counter()
        status = 500  # unless a response starts

        async def answer(message: Message) -> None:
            """Send a message of the response; the first one with the headers of every response."""
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                header = (b"x-request-id", request_id.encode())
                quota: Quota | None = scope.get("fleek.quota")
                rates = () if quota is None else quota.headers()
                message["headers"] = [*message.get("headers", ()), header, *rates]
            await send(message)

        try:
            with _span(scope) as current:
                await self._app(scope, receive, answer)
                _describe(current, scope, status)
        finally:
            seconds = perf_counter() - started
            self._metrics.count(scope, status=status, seconds=seconds)
            _log(scope, self._proxies, status=status, seconds=seconds)


def _span(scope: Scope) -> AbstractContextManager[Span]:
    """Record a request, in the trace of its caller if it has one."""
    given = _header(scope, b"traceparent")
    parent = given if given and TRACEPARENT.fullmatch(given) else None
    method = method_of(scope)
    return span(method, parent=parent, kind=SpanKind.SERVER, http__request__method=method)


def _describe(current: Span, scope: Scope, status: int) -> None:
    """Name a request by its route, as its log line does."""
    if not current.is_recording():
        return
    route = getattr(scope.get("route"), "path", None)
    if route is not None:
        current.update_name(f"{method_of(scope)} {route}")
        current.set_attribute("http.route", route)
    current.set_attribute("http.response.status_code", status)
    if status >= ERRORS:
        current.set_status(StatusCode.ERROR)


def _drop_trailing_slash(scope: Scope) -> None:
    """Let a path with a slash at its end be that without it, for whoever looks at it."""
    path = scope["path"]
    if path[-1:] == "/" != path:
        scope["path"] = path[:-1]


def _log(scope: Scope, proxies: Peers, *, status: int, seconds: float) -> None:
    """Log a request by its route: paths, queries and made-up methods may hold tokens and signatures."""
    route = getattr(scope.get("route"), "path", None)
    quiet = route in QUIET
    if not is_written(logging.DEBUG if quiet else logging.INFO):
        return  # to put together what is not written costs as much as to count the request
    job_id = str(scope.get("path_params", {}).get("job_id"))
    caller = scope.get("fleek.caller")
    write = log.debug if quiet else log.info
    write(
        "request_handled",
        method=method_of(scope),
        route=route,
        status=status,
        seconds=round(seconds, 4),
        client=caller_address(scope, proxies),
        **({} if JOB_ID.fullmatch(job_id) is None else {"job_id": job_id}),
        **({} if caller is None or caller.key_id is None else {"key_id": caller.key_id}),
    )


def _header(scope: Scope, name: bytes) -> str | None:
    """Return the first value of a header; None: there is none."""
    if name not in headers_of(scope):
        return None
    for given, value in scope["headers"]:
        if given == name:
            return str(value.decode("latin-1"))
    return None


def _request_id(given: str | None) -> str:
    if given is not None and VALID_ID.fullmatch(given):
        return given
    return random.randbytes(16).hex()  # noqa: S311 - a name, not a secret; a tenth of the cost
