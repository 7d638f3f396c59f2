"""Reading and cancelling predictions in any dialect, with the faults of these calls."""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
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


def sought(request: Request, dialect: str) -> Prediction | None:
    """Return the prediction whose id is in the path, if it can be seen now."""
    account: Account = request.app.state.account
    prediction = account.by_id.get(request.path_params["id"])
    if prediction is None or prediction.dialect != dialect or not is_own(request, prediction):
        return None
    return prediction if prediction.visible(account.now()) else None


def is_own(request: Request, prediction: Prediction) -> bool:
    """Whether a prediction is of the account of the request's token."""
    account: Account = request.app.state.account
    return not account.plan.accounts or prediction.token == entry_of(request.scope).token


def draw(request: Request, group: Group, prediction: Prediction | None = None) -> Faults:
    """Choose the faults of a call, and enter them in its row of the ledger."""
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


async def shared_faults(account: Account, group: str, faults: Mapping[str, str]) -> ASGIApp | None:
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


def read_response(
    body: dict[str, Any], group: str, faults: Mapping[str, str], status: int = 200
) -> ASGIApp:
    """Return the response of get or list."""
    if f"{group}_cut_body" in faults:
        return cut_body(status, "application/json", encode(body), ending="reset")
    return answer(body, status)


def instant_of_get(account: Account, prediction: Prediction, faults: Faults) -> float | None:
    """Return the instant whose state a get shows; None: it is not found."""
    now = account.now()
    if "get_404" in faults or now - prediction.created < float(faults.get("get_404_fresh", 0)):
        return None
    if "get_data_removed" in faults and prediction.done(now):
        return now + account.plan.retention_seconds
    if "get_stale" in faults:
        return max(prediction.created, now - float(faults["get_stale"]))
    return now


def instant_of_row(account: Account, prediction: Prediction, faults: Faults) -> float | None:
    """Return the instant whose state a list shows; None: the list is too far behind to have it."""
    now = account.now()
    stale = _lag(account, prediction, faults, "list_stale")
    hidden = max(_lag(account, prediction, faults, "list_omit"), stale)
    if now - prediction.created < hidden or not prediction.visible(now):
        return None
    return now - stale


def _lag(account: Account, prediction: Prediction, faults: Mapping[str, str], name: str) -> float:
    """Return the lag of a list in seconds, by chance or by the prediction's marker."""
    behind = float(faults.get(name, 0))
    marker = prediction.markers.get(name)
    if marker is not None and account.plan.injecting:
        behind = max(behind, float(marker.argument or CATALOGUE[name].argument))
    return behind


async def cancel(
    request: Request, prediction: Prediction, *, shows_state: bool = True
) -> ASGIApp | bool:
    """Cancel a prediction, with the faults of that call.

    Returns the faulty response, or whether the response is to report it as stopped in any case.
    If a response has no state to show (`shows_state`), every 200 says that it stopped.
    """
    account: Account = request.app.state.account
    faults = draw(request, "cancel", prediction)
    if "cancel_404" in faults:
        return missing()
    if "cancel_409" in faults:
        return problem(409, "Cancellation in progress. Please try again later.")
    if "cancel_5xx" in faults:
        return failed(faults["cancel_5xx"])
    ignored = "cancel_ignored" in faults
    lied = "cancel_lied" in faults or (ignored and not shows_state)
    account.cancel(prediction, heeded=not lied and not ignored, lied=lied)
    if "cancel_then_5xx" in faults:
        return failed(faults["cancel_then_5xx"])
    if "cancel_then_drop" in faults:
        return dropped()
    if "cancel_slow" in faults:
        await asyncio.sleep(float(faults["cancel_slow"]))
    return lied
