"""Replicate's requests to create a prediction."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.create import EVENTS, Order, Refused, create
from fleek.emulator.create_responses import Reply
from fleek.emulator.media import SHAPES
from fleek.emulator.plan import Marker, UnknownFault, markers
from fleek.emulator.predictions import Prediction
from fleek.emulator.replicate.models import BY_NAME, BY_VERSION, Model, any_model, refusals
from fleek.emulator.replicate.representation import NAME
from fleek.emulator.responses import answer, missing, problem

PREFER: Final = re.compile(r"wait(?:=(\d+))?")
VERSION: Final = re.compile(r"[0-9a-f]{64}")
DEADLINE: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


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
    marked = _markers(parameters)
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


def _markers(parameters: Mapping[str, Any]) -> Mapping[str, Marker]:
    try:
        marked = markers(parameters)
    except UnknownFault as error:
        raise Refused(problem(422, str(error))) from error
    if "output" in marked and marked["output"].argument not in SHAPES:
        raise Refused(problem(422, f"the emulator knows these shapes: {', '.join(SHAPES)}"))
    return marked


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
    prefer = request.headers.get("prefer", "")
    respond = partial(_respond, account, prefer=prefer)
    return await create(request, _order(parsed, lasts=lasts), respond)


def _order(parsed: CreateRequest, *, lasts: float | None) -> Order:
    return Order(
        dialect=NAME,
        model=parsed.model.name,
        version=parsed.version,
        parameters=parsed.parameters,
        request_hash=parsed.request_hash,
        markers=parsed.markers,
        shape=parsed.model.shape,
        extension=_extension(parsed),
        images=parsed.parameters.get("num_outputs", 1),
        deployment=parsed.deployment,
        webhook=parsed.body.get("webhook"),
        events=tuple(parsed.body.get("webhook_events_filter") or EVENTS),
        streams=bool(parsed.body.get("stream")) or parsed.model.shape == "tokens",
        lasts=lasts,
    )


def _extension(parsed: CreateRequest) -> str:
    schema = parsed.model.inputs.get("output_format")
    if schema is None:
        return parsed.model.extension
    return str(parsed.parameters.get("output_format", schema["default"]))


async def _respond(account: Account, prediction: Prediction, *, prefer: str) -> Reply:
    """Wait for the end as `Prefer: wait` requests; after that time, the status shown is `starting`."""
    match, show = PREFER.search(prefer), partial(account.show, prediction)
    if match is None:
        return Reply(show(), 201, again=show)
    limit = min(max(int(match[1] or 60), 1), 60) - 0.1
    until = account.now() + limit
    await account.clock.wait(lambda: prediction.ended_at, until=until)
    body = show()
    if prediction.done(account.now()):
        return Reply(body, 201, again=show)
    location = {"location": body["urls"]["get"]}
    return Reply(body | {"status": "starting", "output": None}, 202, location, again=show)
