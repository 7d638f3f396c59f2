"""Creation of predictions: reads the request, records the prediction, responds, with faults."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.callbacks import Callbacks
from fleek.emulator.create_responses import refuse, reply
from fleek.emulator.faults import Group
from fleek.emulator.media import SHAPES
from fleek.emulator.models import BY_NAME, BY_VERSION, Model, any_model, refusals
from fleek.emulator.plan import Marker, UnknownFault, markers, seconds
from fleek.emulator.predictions import Prediction
from fleek.emulator.responses import answer, entry_of, missing, problem

EVENTS: Final = ("start", "output", "logs", "completed")
VERSION: Final = re.compile(r"[0-9a-f]{64}")
DEADLINE: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class Refused(Exception):
    """The response is an error; no prediction is created."""

    def __init__(self, response: ASGIApp) -> None:
        super().__init__()
        self.response = response


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """A parsed request to create a prediction."""

    model: Model
    version: str  # as shown in the prediction
    parameters: Mapping[str, Any]
    body: Mapping[str, Any]
    request_hash: str
    markers: Mapping[str, Marker]
    deployment: str | None


def read_create_request(
    account: Account, content: bytes, *, official: str | None, deployment: str | None
) -> CreateRequest:
    """Parse a request's body.

    Args:
        account: With the plan, which determines what is accepted.
        content: The body's bytes.
        official: The model in the path; None: there is none.
        deployment: The deployment in the path; None: there is none.

    Raises:
        Refused: The request is not valid.
    """
    try:
        body = json.loads(content)
    except ValueError as error:
        raise Refused(problem(400, "The request body is not valid JSON.")) from error
    parameters = body.get("input") if isinstance(body, dict) else None
    if not isinstance(parameters, dict):
        raise Refused(_invalid([("input", "required", "input is required")]))
    if deployment is not None:
        model, version = any_model("emulator/deployed"), any_model("emulator/deployed").version
    else:
        model, version = _model(account, official, body.get("version"))
    if wrong := refusals(model, parameters):
        raise Refused(_invalid(wrong))
    _check_webhook(account, body)
    try:
        marked = markers(parameters)
    except UnknownFault as error:
        raise Refused(problem(422, str(error))) from error
    if "output" in marked and marked["output"].argument not in SHAPES:
        raise Refused(problem(422, f"the emulator knows these shapes: {', '.join(SHAPES)}"))
    target = json.dumps([model.name, deployment, parameters], sort_keys=True)
    return CreateRequest(
        model=model,
        version=version,
        parameters=parameters,
        body=body,
        request_hash=sha256(target.encode()).hexdigest(),
        markers=marked,
        deployment=deployment,
    )


def _model(account: Account, official: str | None, reference: Any) -> tuple[Model, str]:
    """Return the model, and the version as shown in the prediction."""
    if official is not None:
        return _official(account, official), "hidden"
    if not isinstance(reference, str):
        raise Refused(_invalid([("version", "required", "version is required")]))
    name, _, version = reference.rpartition(":")
    if "/" in reference and not name:
        return _official(account, reference), "hidden"
    model = BY_VERSION.get(version)
    if model is not None and name in ("", model.name):
        return model, version
    if not VERSION.fullmatch(version) or not account.plan.any_model or name in BY_NAME:
        text = "The specified version does not exist (or perhaps you don't have permission to use it?)"
        raise Refused(problem(422, text, title="Invalid version or not permitted"))
    return any_model(name or "emulator/unnamed"), version


def _official(account: Account, name: str) -> Model:
    model = BY_NAME.get(name)
    if model is None and account.plan.any_model:
        return any_model(name)
    if model is None or not model.official:
        raise Refused(missing())
    return model


def _check_webhook(account: Account, body: Mapping[str, Any]) -> None:
    webhook, events = body.get("webhook"), body.get("webhook_events_filter") or ()
    allowed = ("https://",) if account.plan.https_webhooks else ("https://", "http://")
    if webhook is not None and not str(webhook).startswith(allowed):
        raise Refused(_invalid([("webhook", "invalid", "webhook must be a valid HTTPS URL")]))
    if any(event not in EVENTS for event in events):
        text = f"webhook_events_filter must be some of {', '.join(EVENTS)}"
        raise Refused(_invalid([("webhook_events_filter", "enum", text)]))


def read_deadline(account: Account, header: str | None) -> float | None:
    """Return `Cancel-After`, e.g. `1m30s`, in seconds.

    Raises:
        Refused: It is not a duration, or too short.
    """
    if header is None:
        return None
    match = DEADLINE.fullmatch(header.strip())
    hours, minutes, rest = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + rest
    if total < account.plan.cancel_after_min_seconds:
        least = account.plan.cancel_after_min_seconds
        raise Refused(problem(422, f"Cancel-After must be a duration of at least {least:g}s"))
    return float(total)


def _invalid(wrong: list[tuple[str, str, str]]) -> ASGIApp:
    return answer(
        {
            "title": "Input validation failed",
            "detail": "".join(f"- {field}: {text}\n" for field, _, text in wrong),
            "status": 422,
            "invalid_fields": [
                {"field": f"input.{field}", "type": kind, "description": text}
                for field, kind, text in wrong
            ],
        },
        422,
    )


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


def routes() -> list[Route]:
    """Return the routes that create predictions."""
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
        parsed = read_create_request(account, content, official=official, deployment=deployment)
        lasts = read_deadline(account, request.headers.get("cancel-after"))
    except Refused as refused:
        return refused.response
    faults = _draw(account, parsed, "create")
    knobs = _draw(account, parsed, "knob")
    entry = entry_of(request.scope)
    entry.faults += [*faults]
    entry.subject, entry.markers, entry.model = (
        parsed.request_hash,
        parsed.markers,
        parsed.model.name,
    )
    if (refusal := await refuse(account, faults)) is not None:
        return refusal
    prediction = _create_prediction(
        account, parsed, request=request, knobs=knobs, faults=faults, lasts=lasts
    )
    callbacks: Callbacks = request.app.state.callbacks
    await callbacks.watch(prediction, early="hook_early" in faults)
    if "delay" in knobs:
        await asyncio.sleep(float(knobs["delay"]))
    return await reply(account, prediction, faults, request.headers.get("prefer", ""))


def _draw(account: Account, parsed: CreateRequest, group: Group) -> dict[str, str]:
    return account.sampler.draw(
        account.plan,
        group,
        subject=parsed.request_hash,
        markers=parsed.markers,
        model=parsed.model.name,
    )


def _create_prediction(
    account: Account,
    parsed: CreateRequest,
    *,
    request: Request,
    knobs: Mapping[str, str],
    faults: Mapping[str, str],
    lasts: float | None,  # seconds
) -> Prediction:
    plan, random = account.plan, account.sampler.roll(account.plan, "life span")
    created = account.next_instant()
    traits = _draw(account, parsed, "life")
    early = "hook_early" in faults
    prediction = Prediction(
        seq=len(account.predictions),
        id=account.new_id(),
        model=parsed.model.name,
        version=parsed.version,
        input=dict(parsed.parameters),
        created=created,
        queue=_time(knobs, "queue", seconds(plan.queue_seconds, random), early=early),
        work=_time(knobs, "predict", seconds(plan.predict_seconds, random), early=early),
        shape=knobs.get("output", parsed.model.shape),
        extension=_extension(parsed),
        images=_images(parsed, knobs),
        base=str(request.base_url).rstrip("/"),
        request_hash=parsed.request_hash,
        token=entry_of(request.scope).token or "",
        running_limit=plan.running_limit_seconds,
        deployment=parsed.deployment,
        webhook=parsed.body.get("webhook"),
        events=tuple(parsed.body.get("webhook_events_filter") or EVENTS),
        streams=bool(parsed.body.get("stream")) or parsed.model.shape == "tokens",
        deadline=None if lasts is None else created + lasts,
        traits=traits,
        markers=dict(parsed.markers),
        fate=_fate(faults),
    )
    account.record_prediction(prediction)
    return prediction


def _time(knobs: Mapping[str, str], name: str, drawn: float, *, early: bool) -> float:
    return 0.0 if early else float(knobs.get(name, drawn))


def _fate(faults: Mapping[str, str]) -> str:
    return next((FATES.get(name, "mangled") for name in faults), "delivered")


def _extension(parsed: CreateRequest) -> str:
    schema = parsed.model.inputs.get("output_format")
    if schema is None:
        return parsed.model.extension
    return str(parsed.parameters.get("output_format", schema["default"]))


def _images(parsed: CreateRequest, knobs: Mapping[str, str]) -> int:
    count = knobs.get("images", parsed.parameters.get("num_outputs", 1))
    return max(1, min(int(count), 100)) if str(count).isdigit() else 1
