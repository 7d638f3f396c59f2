"""The routes that read, list and cancel predictions."""

import base64
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.plan import Faults
from fleek.emulator.predictions import Prediction
from fleek.emulator.reads import (
    cancel,
    draw,
    instant_of_get,
    instant_of_row,
    is_own,
    read_response,
    shared_faults,
    sought,
)
from fleek.emulator.replicate.representation import NAME
from fleek.emulator.responses import answer, missing, problem

PAGE: Final = 100


def routes() -> list[Route]:
    """Return the routes that read, list and cancel predictions."""
    return [
        Route("/v1/predictions/{id}", _get, methods=["GET"]),
        Route("/v1/predictions", _list, methods=["GET"]),
        Route("/v1/predictions/{id}/cancel", _cancel, methods=["POST"]),
    ]


async def _get(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = sought(request, NAME)
    if prediction is None:
        return missing()
    faults = draw(request, "get", prediction)
    if (response := await shared_faults(account, "get", faults)) is not None:
        return response
    at = instant_of_get(account, prediction, faults)
    if at is None:
        return missing()
    return read_response(account.show(prediction, at=at), "get", faults)


async def _list(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    faults = draw(request, "list")
    if (response := await shared_faults(account, "list", faults)) is not None:
        return response
    try:
        first, last = _window(account, request)
    except ValueError as error:
        return problem(400, f"Invalid query: {error}")
    page: list[dict[str, Any]] = []
    older = index = last
    while index > first and len(page) < PAGE:
        index -= 1
        page += _row(request, account.predictions[index], faults)
        older = index
    if "list_repeat" in faults and older > first:
        older = last
    body = {
        "previous": _link(request, last + PAGE) if last < len(account.predictions) else None,
        "next": _link(request, older) if older > first else None,
        "results": page,
    }
    return read_response(body, "list", faults)


def _row(request: Request, prediction: Prediction, faults: Faults) -> list[dict[str, Any]]:
    """Return a prediction's row in the list; none if the list is too far behind to have it."""
    account: Account = request.app.state.account
    at = instant_of_row(account, prediction, faults)
    mine = prediction.dialect == NAME and is_own(request, prediction)
    return [account.show(prediction, at=at)] if mine and at is not None else []


def _window(account: Account, request: Request) -> tuple[int, int]:
    """Return the requested range of `predictions`; it is listed backwards from its end."""
    query = request.query_params
    first, last = 0, len(account.predictions)
    if "created_after" in query:
        first = account.since(_instant(query["created_after"]))
    if "created_before" in query:
        last = account.since(_instant(query["created_before"]))
    if "cursor" in query:
        last = min(last, int(base64.urlsafe_b64decode(query["cursor"]).removeprefix(b"p=")))
    return first, last


def _instant(text: str) -> float:
    written = datetime.fromisoformat(text.replace(" ", "+"))
    if written.tzinfo is None:
        message = f"{text} has no time zone"
        raise ValueError(message)
    return written.timestamp()


def _link(request: Request, index: int) -> str:
    cursor = base64.urlsafe_b64encode(f"p={index}".encode()).decode()
    return str(request.url.include_query_params(cursor=cursor))


async def _cancel(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = sought(request, NAME)
    if prediction is None:
        return missing()
    lied = await cancel(request, prediction)
    if not isinstance(lied, bool):
        return lied
    return answer(account.show(prediction) | ({"status": "canceled"} if lied else {}))
