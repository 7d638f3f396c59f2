"""The routes that read, list and cancel predictions."""

import asyncio
import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.faults import CATALOGUE, Group
from fleek.emulator.plan import Faults
from fleek.emulator.predictions import Prediction
from fleek.emulator.responses import (
    ODD,
    answer,
    cut_body,
    dropped,
    encode,
    entry_of,
    failed,
    html,
    missing,
    problem,
    reset,
    throttled,
)

PAGE: Final = 100


def routes() -> list[Route]:
    """Return the routes that read, list and cancel predictions."""
    return [
        Route("/v1/predictions/{id}", _get, methods=["GET"]),
        Route("/v1/predictions", _list, methods=["GET"]),
        Route("/v1/predictions/{id}/cancel", _cancel, methods=["POST"]),
    ]


def _draw(request: Request, group: Group, prediction: Prediction | None = None) -> Faults:
    account: Account = request.app.state.account
    faults = account.sampler.draw(
        account.plan,
        group,
        subject="" if prediction is None else prediction.id,
        markers=None if prediction is None else prediction.markers,
        model="" if prediction is None else prediction.model,
    )
    entry = entry_of(request.scope)
    entry.faults += [*faults]
    if prediction is not None:
        entry.subject, entry.markers = prediction.id, prediction.markers
        entry.model = prediction.model
    return faults


async def _shared_faults(
    account: Account, group: str, faults: Mapping[str, str]
) -> ASGIApp | None:
    """Return the faulty response of get or list, for the faults that they share."""
    if f"{group}_slow" in faults:
        await asyncio.sleep(float(faults[f"{group}_slow"]))
    if f"{group}_429" in faults:
        return throttled(faults[f"{group}_429"], account.now())
    if f"{group}_5xx" in faults:
        return failed(faults[f"{group}_5xx"])
    if f"{group}_reset" in faults:
        return reset()
    if f"{group}_html" in faults:
        return html()
    if f"{group}_odd" in faults:
        return answer(ODD.get(faults[f"{group}_odd"]))
    return None


def _response(body: dict[str, Any], group: str, faults: Mapping[str, str]) -> ASGIApp:
    if f"{group}_cut_body" in faults:
        return cut_body(200, "application/json", encode(body), ending="reset")
    return answer(body)


async def _get(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = account.by_id.get(request.path_params["id"])
    if prediction is None or not prediction.visible(account.now()):
        return missing()
    faults = _draw(request, "get", prediction)
    if (response := await _shared_faults(account, "get", faults)) is not None:
        return response
    now = account.now()
    if "get_404" in faults or now - prediction.created < float(faults.get("get_404_fresh", 0)):
        return missing()
    at = now
    if "get_stale" in faults:
        at = max(prediction.created, now - float(faults["get_stale"]))
    if "get_data_removed" in faults and prediction.done(now):
        at = now + account.plan.retention_seconds
    return _response(account.show(prediction, at=at), "get", faults)


async def _list(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    faults = _draw(request, "list")
    if (response := await _shared_faults(account, "list", faults)) is not None:
        return response
    try:
        first, last = _window(account, request)
    except ValueError as error:
        return problem(400, f"Invalid query: {error}")
    page: list[dict[str, Any]] = []
    older = index = last
    while index > first and len(page) < PAGE:
        index -= 1
        page += _row(account, account.predictions[index], faults)
        older = index
    if "list_repeat" in faults and older > first:
        older = last
    body = {
        "previous": _link(request, last + PAGE) if last < len(account.predictions) else None,
        "next": _link(request, older) if older > first else None,
        "results": page,
    }
    return _response(body, "list", faults)


def _row(
    account: Account, prediction: Prediction, faults: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return a prediction's row in the list; None if the list is too far behind to have it."""
    now = account.now()
    stale = _lag(account, prediction, faults, "list_stale")
    hidden = max(_lag(account, prediction, faults, "list_omit"), stale)
    if now - prediction.created < hidden or not prediction.visible(now):
        return []
    return [account.show(prediction, at=now - stale)]


def _lag(account: Account, prediction: Prediction, faults: Mapping[str, str], name: str) -> float:
    """Return the lag of a list in seconds, by chance or by the prediction's marker."""
    behind = float(faults.get(name, 0))
    marker = prediction.markers.get(name)
    if marker is not None and account.plan.injecting:
        behind = max(behind, float(marker.argument or CATALOGUE[name].argument))
    return behind


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
    prediction = account.by_id.get(request.path_params["id"])
    if prediction is None or not prediction.visible(account.now()):
        return missing()
    faults = _draw(request, "cancel", prediction)
    if "cancel_404" in faults:
        return missing()
    if "cancel_5xx" in faults:
        return failed(faults["cancel_5xx"])
    lied = "cancel_lied" in faults
    account.cancel(prediction, heeded=not lied and "cancel_ignored" not in faults, lied=lied)
    if "cancel_then_5xx" in faults:
        return failed(faults["cancel_then_5xx"])
    if "cancel_then_drop" in faults:
        return dropped()
    if "cancel_slow" in faults:
        await asyncio.sleep(float(faults["cancel_slow"]))
    return answer(account.show(prediction) | ({"status": "canceled"} if lied else {}))
