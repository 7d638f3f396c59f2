"""The control API for plan, clock and ledger. Only for callers on this machine."""

import json
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any, Final

from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fleek.emulator.account import Account
from fleek.emulator.callbacks import Callbacks
from fleek.emulator.faults import CATALOGUE
from fleek.emulator.plan import Plan
from fleek.emulator.predictions import ledger_row
from fleek.emulator.responses import answer, missing, problem

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
MAX_NUMBER: Final = 1e11  # of seconds, and for seeds
ROWS: Final = ("predictions", "requests", "webhooks", "downloads")


def routes() -> list[Route]:
    """Return the routes of the control API."""
    return [
        Route("/_emu/plan", _get_plan, methods=["GET"]),
        Route("/_emu/plan", _put_plan, methods=["PUT", "PATCH"]),
        Route("/_emu/reset", _reset, methods=["POST"]),
        Route("/_emu/clock/advance", _advance, methods=["POST"]),
        Route("/_emu/release/{id}", _release, methods=["POST"]),
        Route("/_emu/quiesce", _quiesce, methods=["POST"]),
        Route("/_emu/ledger", _ledger, methods=["GET"]),
        Route("/_emu/counts", _counts, methods=["GET"]),
        Route("/_emu/catalogue", _catalogue, methods=["GET"]),
    ]


class LoopbackOnly:
    """Restricts the control API to programs on this machine.

    Web pages in a local browser are refused, too: a page's host name may resolve to this machine
    (DNS rebinding), and its forms may be sent here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._control = TrustedHostMiddleware(app, allowed_hosts=LOOPBACK, www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond with 403, or with 400 for another host name."""
        if scope["type"] != "http" or not scope["path"].startswith("/_emu/"):
            await self._app(scope, receive, send)
            return
        caller = scope.get("client")
        here = caller is not None and ip_address(caller[0]).is_loopback
        if here and "origin" not in Headers(scope=scope):
            await self._control(scope, receive, send)
            return
        refusal = problem(403, "The control API is only available to programs on this machine.")
        await refusal(scope, receive, send)


async def _get_plan(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    return answer(account.plan.model_dump(mode="json"))


async def _put_plan(request: Request) -> ASGIApp:
    """Replace the plan (PUT), or the given fields (PATCH). The seed is kept unless given."""
    account: Account = request.app.state.account
    before = account.plan.model_dump()
    kept = before if request.method == "PATCH" else {"seed": account.plan.seed}
    try:
        account.plan = Plan.model_validate(kept | await _json(request))
    except ValidationError as error:
        return problem(422, str(error))
    return answer(account.plan.model_dump(mode="json"))


async def _reset(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    seed = request.query_params.get("seed")
    chosen = None if seed is None else int(_number(seed))
    callbacks: Callbacks = request.app.state.callbacks
    callbacks.forget()
    account.reset(chosen)
    return answer({"seed": account.plan.seed})


async def _advance(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    body = await _json(request)
    account.clock.advance(_number(request.query_params.get("seconds", body.get("seconds"))))
    return answer({"now": account.now()})


async def _release(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = account.by_id.get(request.path_params["id"])
    if prediction is None:
        return missing()
    account.release(prediction)
    return answer(account.show(prediction))


async def _quiesce(request: Request) -> ASGIApp:
    """Stop injecting faults, and end everything that runs."""
    account: Account = request.app.state.account
    account.plan = account.plan.model_copy(update={"injecting": False})
    for prediction in account.predictions:
        account.release(prediction)
    return answer(account.totals())


async def _ledger(request: Request) -> ASGIApp:
    """Return totals, and the rows of the kinds in `rows` (comma-separated; default: all)."""
    account: Account = request.app.state.account
    kinds = request.query_params.get("rows", ",".join(ROWS)).split(",")
    now = account.now()
    body: dict[str, Any] = {"seed": account.plan.seed, "now": now, "totals": account.totals()}
    for kind in ROWS:
        if kind == "predictions" and kind in kinds:
            rows = account.predictions
            body[kind] = [ledger_row(prediction, account.plan, now) for prediction in rows]
        elif kind in kinds:
            body[kind] = account.ledger.rows(kind.removesuffix("s"))
    return answer(body)


async def _counts(request: Request) -> ASGIApp:
    """Return the numbers of rows by kind alone: callers may ask often, whatever the ledger holds."""
    account: Account = request.app.state.account
    return answer(account.ledger.counts)


async def _catalogue(_: Request) -> ASGIApp:
    return answer([asdict(fault) for fault in CATALOGUE.values()])


async def _json(request: Request) -> dict[str, Any]:
    content = await request.body()
    try:
        body = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "The body is not an object.")
    return body


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise HTTPException(400, "The value is not a number.") from error
    if not abs(number) <= MAX_NUMBER:
        raise HTTPException(400, "The value is not a number, or is too large.")
    return number
