"""Orders: what a request to create a prediction asks for, checked as Replicate checks it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.models import BY_NAME, BY_VERSION, Model, any_model, refusals
from fleek.emulator.outputs import SHAPES
from fleek.emulator.plan import Marker, UnknownFault, markers
from fleek.emulator.responses import answer, missing, problem

EVENTS: Final = ("start", "output", "logs", "completed")
VERSION: Final = re.compile(r"[0-9a-f]{64}")
DEADLINE: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class Refused(Exception):
    """The response is an error; no prediction is created."""

    def __init__(self, response: ASGIApp) -> None:
        super().__init__()
        self.response = response


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A request to create, understood."""

    model: Model
    version: str  # as the prediction will show it
    parameters: Mapping[str, Any]
    body: Mapping[str, Any]
    request_hash: str
    markers: Mapping[str, Marker]
    deployment: str | None


def read_order(
    account: Account, content: bytes, *, official: str | None, deployment: str | None
) -> Order:
    """Read a request's body.

    Args:
        account: Its plan says what is accepted.
        content: The body's bytes.
        official: The model named by the path, if it names one.
        deployment: The deployment named by the path, if it names one.

    Raises:
        Refused: It asks for something that cannot be had.
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
    return Order(
        model=model,
        version=version,
        parameters=parameters,
        body=body,
        request_hash=sha256(target.encode()).hexdigest(),
        markers=marked,
        deployment=deployment,
    )


def _model(account: Account, official: str | None, wanted: Any) -> tuple[Model, str]:
    """Find the model, and the version that the prediction will show."""
    if official is not None:
        return _official(account, official), "hidden"
    if not isinstance(wanted, str):
        raise Refused(_invalid([("version", "required", "version is required")]))
    name, _, version = wanted.rpartition(":")
    if "/" in wanted and not name:
        return _official(account, wanted), "hidden"
    known = BY_VERSION.get(version)
    if known is not None and name in ("", known.name):
        return known, version
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
    """Read `Cancel-After`, e.g. `1m30s`, in seconds.

    Raises:
        Refused: It is no duration, or too short.
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
