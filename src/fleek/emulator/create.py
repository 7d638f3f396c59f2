"""The creation of a prediction in any dialect: faults, the record in the ledger, the response."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.callbacks import Callbacks
from fleek.emulator.create_responses import Reply, refuse, spoiled
from fleek.emulator.faults import Group
from fleek.emulator.plan import Marker, seconds
from fleek.emulator.predictions import Prediction
from fleek.emulator.responses import entry_of

EVENTS: Final = ("start", "output", "logs", "completed")

FATES: Final = {
    "create_then_drop": "lost",
    "create_then_reset": "reset",
    "create_then_5xx": "lost",
    "create_then_timeout": "lost",
    "create_then_delay": "late",
    "create_cut_headers": "reset",
    "create_cut_body": "reset",
    "create_200": "delivered",
    "hook_early": "delivered",
}  # any other fault after the creation: mangled


class Refused(Exception):
    """The response is an error; no prediction is created."""

    def __init__(self, response: ASGIApp) -> None:
        super().__init__()
        self.response = response


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A valid request to create a prediction."""

    dialect: str
    model: str
    id: str | None = None  # None: a new one is chosen
    parameters: Mapping[str, Any]
    request_hash: str
    markers: Mapping[str, Marker]
    shape: str  # of the output
    extension: str  # of its files
    images: int = 1
    version: str = "hidden"
    deployment: str | None = None
    webhook: str | None = None
    events: tuple[str, ...] = EVENTS
    streams: bool = False
    lasts: float | None = None  # seconds


Respond = Callable[[Prediction], Awaitable[Reply]]


async def create(request: Request, order: Order, respond: Respond) -> ASGIApp:
    """Create a prediction and respond with it, with the faults that the sampler draws.

    `respond` returns the intact response, which may wait for the end of the prediction.
    """
    account: Account = request.app.state.account
    faults = _draw(account, order, "create")
    knobs = _draw(account, order, "knob")
    entry = entry_of(request.scope)
    entry.faults += [*faults]
    entry.subject, entry.markers, entry.model = order.request_hash, order.markers, order.model
    if (refusal := await refuse(account, faults)) is not None:
        return refusal
    prediction = _create_prediction(account, order, request=request, knobs=knobs, faults=faults)
    callbacks: Callbacks = request.app.state.callbacks
    await callbacks.watch(prediction, early="hook_early" in faults)
    if "delay" in knobs:
        await asyncio.sleep(float(knobs["delay"]))
    return await spoiled(account, await respond(prediction), faults)


def _draw(account: Account, order: Order, group: Group) -> dict[str, str]:
    return account.sampler.draw(
        account.plan,
        group,
        subject=order.request_hash,
        markers=order.markers,
        model=order.model,
    )


def _create_prediction(
    account: Account,
    order: Order,
    *,
    request: Request,
    knobs: Mapping[str, str],
    faults: Mapping[str, str],
) -> Prediction:
    plan, random = account.plan, account.sampler.roll(account.plan, "life span")
    created = account.next_instant()
    traits = _draw(account, order, "life")
    early = "hook_early" in faults
    prediction = Prediction(
        seq=len(account.predictions),
        id=order.id or account.new_id(),
        dialect=order.dialect,
        model=order.model,
        version=order.version,
        input=dict(order.parameters),
        created=created,
        queue=_time(knobs, "queue", seconds(plan.queue_seconds, random), early=early),
        work=_time(knobs, "predict", seconds(plan.predict_seconds, random), early=early),
        shape=knobs.get("output", order.shape),
        extension=order.extension,
        images=_images(knobs.get("images", order.images)),
        base=str(request.base_url).rstrip("/"),
        request_hash=order.request_hash,
        token=entry_of(request.scope).token or "",
        running_limit=plan.running_limit_seconds,
        deployment=order.deployment,
        webhook=order.webhook,
        events=order.events,
        streams=order.streams,
        deadline=None if order.lasts is None else created + order.lasts,
        traits=traits,
        markers=dict(order.markers),
        fate=_fate(faults),
    )
    account.record_prediction(prediction)
    return prediction


def _time(knobs: Mapping[str, str], name: str, drawn: float, *, early: bool) -> float:
    return 0.0 if early else float(knobs.get(name, drawn))


def _fate(faults: Mapping[str, str]) -> str:
    return next((FATES.get(name, "mangled") for name in faults), "delivered")


def _images(count: Any) -> int:
    return max(1, min(int(count), 100)) if str(count).isdigit() else 1
