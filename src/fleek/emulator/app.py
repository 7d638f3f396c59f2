"""The emulator as an ASGI application, and the middleware of every request."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fleek.emulator import control, files
from fleek.emulator.account import Account, fingerprint
from fleek.emulator.callbacks import Callbacks
from fleek.emulator.control import LoopbackOnly
from fleek.emulator.dialect import Dialect
from fleek.emulator.plan import Faults, seconds
from fleek.emulator.responses import (
    ERROR_FORM,
    RequestEntry,
    ResponseWriter,
    answer,
    missing,
    problem,
    throttled,
)


class RequestMiddleware:
    """The middleware around the routes."""

    def __init__(self, app: ASGIApp, account: Account) -> None:
        self._app = app
        self._account = account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, and add it to the ledger after the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry = scope["emulator.entry"] = RequestEntry()
        dialect = self._dialect(scope)
        began, entered = self._account.now(), dialect is not None
        writer = ResponseWriter(
            send, entry, now=self._shown, draw=lambda: self._faults(entry) if entered else {}
        )
        app = self._app
        if dialect is not None:
            scope[ERROR_FORM] = partial(dialect.error, self._account.plan)
            app = self._refusal(dialect, scope, entry) or self._app
            await self._pause()
        with suppress(asyncio.CancelledError):  # cancelled only when the server ends
            await app(scope, receive, writer)
        if entry.download is not None:
            row = {"t": began, "faults": entry.faults, "status": entry.status}
            self._account.ledger.add("download", **entry.download, **row, bytes=entry.sent)
        elif entered:
            self._enter(scope, entry, began)

    def _dialect(self, scope: Scope) -> Dialect | None:
        """Return the dialect of a path; None: it is outside of the APIs."""
        for dialect in self._account.dialects.values():
            prefix, path = dialect.prefix, scope["path"]
            if path.startswith(f"{prefix}/v1/"):  # clients differ in whether they append /v1
                scope["path"] = path = prefix + path.removeprefix(f"{prefix}/v1")
            if path.startswith(f"{prefix}/"):
                return dialect
        return None

    def _refusal(self, dialect: Dialect, scope: Scope, entry: RequestEntry) -> ASGIApp | None:
        """Return the response to an unauthenticated or throttled request; None if it is allowed."""
        headers = dict(scope["headers"])
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        entry.token = fingerprint(token) if token else None
        tokens = self._account.plan.tokens
        accepted = bool(token) and (tokens is None or token in tokens)
        entry.auth_ok = dialect.is_open(scope) or (kind.lower() in dialect.schemes and accepted)
        if not entry.auth_ok:
            what = "a valid" if token else "an"
            text = f"You did not pass {what} authentication token"
            return problem(401, text, title="Unauthenticated")
        return self._limit(dialect, scope)

    def _limit(self, dialect: Dialect, scope: Scope) -> ASGIApp | None:
        plan, now = self._account.plan, self._account.now()
        creates = scope["method"] == "POST" and dialect.creates(scope["path"])
        limit = plan.creates_per_minute if creates else plan.others_per_minute
        if limit is None:
            return None
        windows, minute = self._account.windows, int(now // 60)
        kind = "create" if creates else "other"
        windows[kind, minute] += 1
        windows.pop((kind, minute - 1), None)
        if windows[kind, minute] <= limit:
            return None
        return throttled(str(int(60 - now % 60) + 1), now)

    async def _pause(self) -> None:
        plan = self._account.plan
        if plan.answer_seconds != 0:
            await asyncio.sleep(
                seconds(plan.answer_seconds, self._account.sampler.roll(plan, "answer"))
            )

    def _shown(self) -> float:
        return self._account.now() + self._account.plan.clock_offset_seconds

    def _faults(self, entry: RequestEntry) -> Faults:
        account = self._account
        return account.sampler.draw(
            account.plan, "answer", subject=entry.subject, markers=entry.markers, model=entry.model
        )

    def _enter(self, scope: Scope, entry: RequestEntry, began: float) -> None:
        self._account.ledger.add(
            "request",
            seq=self._account.ledger.counts["request"] + 1,
            t=began,
            method=scope["method"],
            path=scope["path"],
            auth_ok=entry.auth_ok,
            token=entry.token,
            faults=entry.faults,
            status=entry.status,
            bytes=entry.sent,
        )


def create_app(account: Account, callbacks: Callbacks) -> ASGIApp:
    """Build the APIs, the host of output files and the control API, all on one port.

    The connection-level faults need `server.Protocol`; everything else runs on any ASGI server.
    """
    routes: list[BaseRoute] = [
        route for dialect in account.dialects.values() for route in dialect.routes()
    ]
    routes += [*files.routes(), *control.routes(), Route("/", _root)]
    return _wrapped(routes, account, callbacks)


def create_delivery(account: Account, callbacks: Callbacks) -> ASGIApp:
    """Build the host of output files alone, for a separate port."""
    return _wrapped([*files.routes()], account, callbacks)


def _wrapped(routes: list[BaseRoute], account: Account, callbacks: Callbacks) -> ASGIApp:
    app = Starlette(routes=routes, exception_handlers={HTTPException: _problem})
    app.state.account = account
    app.state.callbacks = callbacks
    return LoopbackOnly(RequestMiddleware(app, account))


async def _problem(_: Request, error: Exception) -> Any:
    assert isinstance(error, HTTPException)
    return missing() if error.status_code == 404 else problem(error.status_code, error.detail)


async def _root(_: Request) -> ASGIApp:
    return answer({"docs_url": "https://docs.replicate.com/reference/http", "emulator": True})
