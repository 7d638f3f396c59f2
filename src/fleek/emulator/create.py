"""Creation of predictions: read the request, record the prediction, respond with or without faults."""

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.callbacks import Callbacks
from fleek.emulator.create_request import EVENTS, Order, Refused, read_deadline, read_order
from fleek.emulator.create_responses import refuse, reply
from fleek.emulator.faults import Group
from fleek.emulator.plan import seconds
from fleek.emulator.predictions import Prediction
from fleek.emulator.responses import entry_of

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
}  # any other fault that strikes after the sale: mangled


def routes() -> list[Route]:
    """Give the routes that create predictions."""
    return [
        Route("/v1/predictions", _by_version, methods=["POST"]),
        Route("/v1/models/{owner}/{name}/predictions", _by_model, methods=["POST"]),
        Route("/v1/deployments/{owner}/{name}/predictions", _by_deployment, methods=["POST"]),
    ]


async def _by_version(request: Request) -> ASGIApp:
    return await _create(request, official=None, deployment=None)


async def _by_model(request: Request) -> ASGIApp:
    name = "{owner}/{name}".format(**request.path_params)
    return await _create(request, official=name, deployment=None)


async def _by_deployment(request: Request) -> ASGIApp:
    name = "{owner}/{name}".format(**request.path_params)
    return await _create(request, official=None, deployment=name)


async def _create(request: Request, *, official: str | None, deployment: str | None) -> ASGIApp:
    account: Account = request.app.state.account
    content = await request.body()
    try:
        order = read_order(account, content, official=official, deployment=deployment)
        lasts = read_deadline(account, request.headers.get("cancel-after"))
    except Refused as refused:
        return refused.response
    faults = _draw(account, order, "create")
    wishes = _draw(account, order, "knob")
    entry = entry_of(request.scope)
    entry.faults += [*faults]
    entry.whom, entry.markers, entry.model = order.request_hash, order.markers, order.model.name
    if (refusal := await refuse(account, faults)) is not None:
        return refusal
    prediction = _sold(account, order, request=request, wishes=wishes, faults=faults, lasts=lasts)
    callbacks: Callbacks = request.app.state.callbacks
    await callbacks.watch(prediction, early="hook_early" in faults)
    if "delay" in wishes:
        await asyncio.sleep(float(wishes["delay"]))
    return await reply(account, prediction, faults, request.headers.get("prefer", ""))


def _draw(account: Account, order: Order, group: Group) -> dict[str, str]:
    return account.sampler.draw(
        account.plan,
        group,
        whom=order.request_hash,
        markers=order.markers,
        model=order.model.name,
    )


def _sold(
    account: Account,
    order: Order,
    *,
    request: Request,
    wishes: Mapping[str, str],
    faults: Mapping[str, str],
    lasts: float | None,  # seconds
) -> Prediction:
    plan, random = account.plan, account.sampler.roll(account.plan, "life span")
    created = account.next_instant()
    traits = _draw(account, order, "life")
    early = "hook_early" in faults
    prediction = Prediction(
        seq=len(account.predictions),
        id=account.new_id(),
        model=order.model.name,
        version=order.version,
        input=dict(order.parameters),
        created=created,
        queue=_time(wishes, "queue", seconds(plan.queue_seconds, random), early=early),
        work=_time(wishes, "predict", seconds(plan.predict_seconds, random), early=early),
        shape=wishes.get("output", order.model.shape),
        extension=_extension(order),
        images=_images(order, wishes),
        base=str(request.base_url).rstrip("/"),
        request_hash=order.request_hash,
        token=entry_of(request.scope).token or "",
        running_limit=plan.running_limit_seconds,
        deployment=order.deployment,
        webhook=order.body.get("webhook"),
        events=tuple(order.body.get("webhook_events_filter") or EVENTS),
        streams=bool(order.body.get("stream")) or order.model.shape == "tokens",
        deadline=None if lasts is None else created + lasts,
        traits=traits,
        markers=dict(order.markers),
        fate=_fate(faults),
    )
    account.record_prediction(prediction)
    return prediction


def _time(wishes: Mapping[str, str], name: str, drawn: float, *, early: bool) -> float:
    return 0.0 if early else float(wishes.get(name, drawn))


def _fate(faults: Mapping[str, str]) -> str:
    return next((FATES.get(name, "mangled") for name in faults), "delivered")


def _extension(order: Order) -> str:
    schema = order.model.inputs.get("output_format")
    if schema is None:
        return order.model.extension
    return str(order.parameters.get("output_format", schema["default"]))


def _images(order: Order, wishes: Mapping[str, str]) -> int:
    wanted = wishes.get("images", order.parameters.get("num_outputs", 1))
    return max(1, min(int(wanted), 100)) if str(wanted).isdigit() else 1
